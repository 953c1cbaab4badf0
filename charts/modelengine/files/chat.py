"""`helm test` runs this in a pod: it asks the front door who it is, and chats with a model if one is served.

The first argument is the model's name; empty means any.
"""

import sys

from modelengine import ChatClient, NameServerClient

with NameServerClient() as name_server:
    print("methods:", ", ".join(name_server.support_methods()))
    print("info:", name_server.info())

with ChatClient() as client:
    names = client.get_service_names()
    print("served:", ", ".join(names) or "nothing")
    model = sys.argv[1] or next(iter(names), "")
    if model:
        client.wait_service_available(model, timeout=60)
        answer = client.chat(model, [{"role": "user", "content": "Who are you?"}], options={"max_tokens": 64})
        print(f"{model}: {answer.content}")
        if not answer.content:
            sys.exit(f"error: {model} answered nothing")
    else:
        print("no model is served, so none was asked")
