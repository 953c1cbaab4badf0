// What an empty conversation offers to try. The demo model is a toy that knows a few things: those are offered for it.

const FOR_DEMO = [
  "What is ModelEngine?",
  "Show me the 7 times table",
  "What is 27 + 45?",
  "Count from 1 to 50.",
  "List the days of the week.",
  "介绍一下你自己。",
];
const FOR_OTHERS = [
  "Explain how a hash table works, with a short example in Python.",
  "Compare TCP and UDP in a table.",
  "Help me word a polite reply that declines an invitation.",
];

export function examples(model) {
  return model === "demo" ? FOR_DEMO : FOR_OTHERS;
}
