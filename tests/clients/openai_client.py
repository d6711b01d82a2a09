"""openai-python against a server: python openai_client.py http://127.0.0.1:8080"""
import sys

import openai

client = openai.OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="none", max_retries=0)
model = client.models.list().data[0].id
said = [{"role": "user", "content": "Tell me a story."}]


def check(name, found):
    print(f"{name}: {found!r}"[:100])
    assert found, name


chat = client.chat.completions.create(model=model, messages=said, max_tokens=12, temperature=0, logprobs=True, top_logprobs=2)
text = chat.choices[0].message.content
check("chat", text)
check("logprobs", chat.choices[0].logprobs.content[0].top_logprobs)
chunks = list(client.chat.completions.create(model=model, messages=said, max_tokens=12, temperature=0, stream=True, stream_options={"include_usage": True}))
check("chat stream", "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text and chunks[-1].usage.completion_tokens)
check("n", len(client.chat.completions.create(model=model, messages=said, max_tokens=4, n=3).choices) == 3)
check("completion", client.completions.create(model=model, prompt="Once", max_tokens=8).choices[0].text)
check("completion stream", "".join(c.choices[0].text for c in client.completions.create(model=model, prompt="Once", max_tokens=8, stream=True) if c.choices))
vectors = client.embeddings.create(model=model, input=["a", "b"])
check("embeddings (base64)", len(vectors.data) == 2 and vectors.data[0].embedding[0])
check("embeddings (float)", abs(client.embeddings.create(model=model, input="a", encoding_format="float").data[0].embedding[0] - vectors.data[0].embedding[0]) < 1e-6)
response = client.responses.create(model=model, input="Tell me a story.", max_output_tokens=12, temperature=0)
check("response", response.output_text == text and response.status)
check("response, stored", client.responses.retrieve(response.id).output_text == text)
following = client.responses.create(model=model, input="And then?", previous_response_id=response.id, max_output_tokens=8)
check("response, gone on from", following.usage.input_tokens > response.usage.input_tokens)
with client.responses.stream(model=model, input="Tell me a story.", max_output_tokens=12, temperature=0) as stream:
    events = list(stream)
    check("response stream", "".join(e.delta for e in events if e.type == "response.output_text.delta") == text)
client.responses.delete(response.id)
for name, error, call in [
    ("deleted", openai.NotFoundError, lambda: client.responses.retrieve(response.id)),
    ("unknown model", openai.NotFoundError, lambda: client.chat.completions.create(model="nobody", messages=said)),
    ("bad field", openai.BadRequestError, lambda: client.chat.completions.create(model=model, messages=said, n=0)),
    ("no messages", openai.BadRequestError, lambda: client.chat.completions.create(model=model, messages=[])),
]:
    try:
        call()
    except error as e:
        check(name, e.message)
    else:
        raise SystemExit(f"{name}: no error")
