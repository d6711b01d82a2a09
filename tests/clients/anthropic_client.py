"""anthropic-python against a server: python anthropic_client.py http://127.0.0.1:8080"""
import sys

import anthropic

client = anthropic.Anthropic(base_url=sys.argv[1], api_key="none", max_retries=0)
model = sys.argv[2] if len(sys.argv) > 2 else client.models.list().data[0].id
said = [{"role": "user", "content": "Tell me a story."}]


def check(name, found):
    print(f"{name}: {found!r}"[:100])
    assert found, name


message = client.messages.create(model=model, max_tokens=12, extra_body={"temperature": 0}, messages=said, system="Be brief.")
text = message.content[0].text
check("message", text)
check("stop reason", message.stop_reason == "max_tokens" and message.usage.output_tokens == 12)
with client.messages.stream(model=model, max_tokens=12, extra_body={"temperature": 0}, messages=said, system="Be brief.") as stream:
    check("stream", "".join(stream.text_stream) == text)
    final = stream.get_final_message()
    check("its end", final.stop_reason == "max_tokens" and final.usage.output_tokens == 12)
count = client.messages.count_tokens(model=model, messages=said, system="Be brief.")
usage = message.usage
check("count_tokens", count.input_tokens == usage.input_tokens + usage.cache_read_input_tokens)
stopped = client.messages.create(model=model, max_tokens=12, extra_body={"temperature": 0}, messages=said, system="Be brief.", stop_sequences=[text.split()[2]])
check("stop sequence", stopped.stop_reason == "stop_sequence" and stopped.stop_sequence == text.split()[2])
for name, error, call in [
    ("unknown model", anthropic.NotFoundError, lambda: client.messages.create(model="nobody", max_tokens=1, messages=said)),
    ("no messages", anthropic.BadRequestError, lambda: client.messages.create(model=model, max_tokens=1, messages=[])),
]:
    try:
        call()
    except error as e:
        check(name, e.body["error"]["message"])
    else:
        raise SystemExit(f"{name}: no error")
