"""ollama-python against a server: python ollama_client.py http://127.0.0.1:8080"""
import sys

import ollama

client = ollama.Client(host=sys.argv[1])
said = [{"role": "user", "content": "Tell me a story."}]
options = {"temperature": 0, "num_predict": 12}


def check(name, found):
    print(f"{name}: {found!r}"[:100])
    assert found, name


model = client.list().models[0].model
check("list", model)
check("show", client.show(model).modelinfo["general.architecture"])
text = client.chat(model=model, messages=said, options=options).message.content
check("chat", text)
check("chat stream", "".join(part.message.content for part in client.chat(model=model, messages=said, options=options, stream=True)) == text)
check("generate", client.generate(model=model, prompt="Tell me a story.", options=options).response == text)
check("embed", len(client.embed(model=model, input=["a", "b"]).embeddings) == 2)
check("embeddings", client.embeddings(model=model, prompt="a").embedding[0])
check("ps", client.ps().models[0].model == model)
check("load", client.generate(model=model, prompt="").done_reason == "load")
for name, call in [("unknown model", lambda: client.chat(model="nobody", messages=said)), ("pull", lambda: client.pull(model))]:
    try:
        call()
    except ollama.ResponseError as e:
        check(name, e.error)
    else:
        raise SystemExit(f"{name}: no error")
