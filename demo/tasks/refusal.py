"""What the model cannot do: open questions, requests far outside its little world, and word salad. One honest answer."""

from random import Random

from demo import noise, words
from demo.conversation import Conversation, exchange
from demo.split import Language, Phrases, Split, draw

ANSWER = {
    Language.EN: "I am only a small demo model and I do not know that. Ask me about ModelEngine, or let me count, calculate or repeat something.",
    Language.ZH: "我只是一个小小的演示模型，不知道这个。你可以问我关于 ModelEngine 的问题，或者让我数数、计算或重复词语。",
}
_ASK = {
    Language.EN: Phrases(
        ("Who is {x}?", "What is the history of {x}?", "Write a poem about {x}.", "Write a story about {x}", "Why is {x} so popular?",
         "What do you think about {x}?", "How do I make {x}?", "Where can I buy {x}?", "When was {x} invented?", "Is {x} good for me?",
         "Translate {x} into French.", "What is the price of {x}?", "Who invented {x}?", "Write code for {x}", "What is the best {x}?",
         "Tell me a story about {x}.", "Compare {x} and {y}.", "What is the difference between {x} and {y}?", "How does {x} work?",
         "What is {x}?", "Tell me about {x}.", "Explain {x}.", "Can you explain {x}?", "Introduce {x} to me."),
        ("How much is {x} worth?", "Write an essay about {x}.", "Why do people like {x}?", "Which is better, {x} or {y}?"),
    ),
    Language.ZH: Phrases(
        ("{x}是谁？", "{x}的历史是什么？", "写一首关于{x}的诗。", "写一个关于{x}的故事", "为什么{x}这么受欢迎？", "你觉得{x}怎么样？", "怎么做{x}？",
         "哪里可以买到{x}？", "{x}是什么时候发明的？", "{x}对我好吗？", "把{x}翻译成法语。", "{x}多少钱？", "谁发明了{x}？", "用代码写{x}",
         "最好的{x}是什么？", "讲一个关于{x}的故事。", "比较{x}和{y}。", "{x}和{y}有什么区别？", "什么是{x}？", "介绍一下{x}。", "解释一下{x}。", "{x}是什么？"),
        ("{x}值多少钱？", "写一篇关于{x}的文章。", "人们为什么喜欢{x}？", "{x}和{y}哪个更好？"),
    ),
}
_TOPICS = {
    Language.EN: """football, chess, the Roman Empire, Albert Einstein, Napoleon, the moon landing, chocolate cake, pizza, noodle soup, quantum
physics, black holes, dinosaurs, the stock market, bitcoin, jazz, opera, the violin, yoga, diabetes, headaches, the president of France, the capital of
Spain, the Great Wall, the Eiffel Tower, electric cars, solar power, climate change, democracy, philosophy, Shakespeare, Harry Potter, love,
happiness, my boss, my homework, Java, Rust, quicksort, sorting, a web page, marathon running, tennis, coffee machines, gardening, roses,
elephants, whales, vitamin C, vaccines, airplanes, rockets, Mars, photosynthesis, gravity, the internet, television, Christmas, wine, beer""".replace("\n", " ").split(", "),
    Language.ZH: """足球，象棋，罗马帝国，爱因斯坦，拿破仑，登月，巧克力蛋糕，披萨，面条，量子物理，黑洞，恐龙，股票市场，比特币，爵士乐，京剧，小提琴，瑜伽，糖尿病，头痛，
法国总统，西班牙首都，长城，故宫，电动汽车，太阳能，气候变化，民主，哲学，李白，孙悟空，爱情，幸福，我的老板，我的作业，网页，排序算法，马拉松，网球，咖啡机，
园艺，玫瑰，大象，鲸鱼，维生素，疫苗，飞机，火箭，火星，光合作用，重力，互联网，电视，春节，葡萄酒，啤酒，红烧肉，火锅，月亮，三国演义""".replace("\n", "").split("，"),
}
_OUR_WORDS = {"engine", "model", "name", "port", "server", "client", "stream", "token", "pod", "node", "cluster", "hello"}
_THINGS = [word for word in words.WORDS if word not in _OUR_WORDS]
_REQUESTS = {
    Language.EN: ("What is the meaning of life?", "What will happen tomorrow?", "Who will win the election?", "Give me legal advice.", "What should I eat tonight?",
                  "Write my homework.", "Book a flight for me.", "Send an email to my boss.", "What is the news today?", "Should I buy this house?",
                  "What is the capital of France?", "Who is the president?", "How do I cook rice?", "Write a Python program.", "Solve this equation for me.",
                  "Recommend a film.", "What is the best phone?", "How old is the universe?", "Why is the sky blue?", "Who wrote Hamlet?"),
    Language.ZH: ("人生的意义是什么？", "明天会发生什么？", "谁会赢得选举？", "给我法律建议。", "今晚我该吃什么？", "帮我写作业。", "帮我订机票。", "给我老板发邮件。", "今天有什么新闻？",
                  "我应该买这个房子吗？", "法国的首都是哪里？", "总统是谁？", "怎么煮饭？", "写一个 Python 程序。", "帮我解这个方程。", "推荐一部电影。", "最好的手机是什么？",
                  "宇宙多少岁了？", "天空为什么是蓝色的？", "红楼梦是谁写的？"),
}


def make(rng: Random, language: Language, split: Split) -> Conversation:
    """A question that has no answer here."""
    kind = rng.random()
    if kind < 0.2:
        salad = draw(lambda: _salad(rng, language), split)
        return exchange("refusal", salad, ANSWER[language], salad)
    if kind < 0.35 and split is Split.TRAIN:
        return exchange("refusal", noise.disturb(rng.choice(_REQUESTS[language]), rng), ANSWER[language])
    value = draw(lambda: _topic(rng, language), split)
    question = _ASK[language].pick(rng, split).format(x=value, y=rng.choice(_TOPICS[language]))
    return exchange("refusal", noise.disturb(question, rng) if split is Split.TRAIN else question, ANSWER[language], value)


def _topic(rng: Random, language: Language) -> str:
    if rng.random() < 0.75:
        return rng.choice(_TOPICS[language])
    if language is Language.ZH:
        return words.random_han(rng, rng.randint(2, 3))
    return rng.choice(_THINGS) + "s"


def _salad(rng: Random, language: Language) -> str:
    """Words without sense."""
    if language is Language.ZH:
        return words.random_han(rng, rng.randint(4, 10))
    return " ".join(words.random_word(rng, 2) if rng.random() < 0.3 else rng.choice(words.WORDS) for _ in range(rng.randint(3, 7)))
