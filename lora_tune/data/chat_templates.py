r"""Built-in chat templates: the formats of well-known chat models, selected by name in a recipe.

Each template renders what the model's own tokenizer renders for system, user and assistant
messages. Where a tokenizer's template differs between training and generation, or from version to
version, the comment above ours says which format it has. Only the formats are taken over: special
strings, line breaks and spaces. Transformers removes the line break after each `{% %}`.

Source: `chat_template` in tokenizer_config.json of the repositories on the Hugging Face Hub that
are named above each template.
"""

_ONLY_THREE_ROLES = (
    "{% if message.role not in ['system', 'user', 'assistant'] %}"
    "{{ raise_exception('expected the roles system, user and assistant, found ' + message.role) }}"
    "{% endif %}"
)
# A system message has no turn of its own: it precedes the text of the first user message.
_SYSTEM_IN_FIRST_TURN = (
    "{% set ns = namespace(system='', turns=messages) %}"
    "{% if messages[0].role == 'system' %}"
    "{% set ns.system = messages[0].content + '\\n\\n' %}{% set ns.turns = messages[1:] %}"
    "{% endif %}{{ bos_token }}{% for message in ns.turns %}"
    "{% if message.role != ['user', 'assistant'][loop.index0 % 2] %}"
    "{{ raise_exception('expected user and assistant messages in turn, found ' + message.role) }}"
    "{% endif %}"
)

_CHATML_TURNS = (
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

CHAT_TEMPLATES = {
    # Roles are written as they are named. Qwen 3 has this format where nothing is thought.
    # Source: teknium/OpenHermes-2.5-Mistral-7B, Qwen/Qwen3-0.6B.
    "chatml": "{% for message in messages %}" + _CHATML_TURNS,
    # Source: google/gemma-3-1b-it; google/gemma-2-2b-it without a system message.
    "gemma": (
        _SYSTEM_IN_FIRST_TURN + "{{ '<start_of_turn>' }}"
        "{{ 'model' if message.role == 'assistant' else 'user' }}"
        "{{ '\\n' + (ns.system if loop.first else '') + message.content | trim }}"
        "{{ '<end_of_turn>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
    ),
    # Source: meta-llama/Meta-Llama-3-8B-Instruct.
    "llama3": (
        "{{ bos_token }}{% for message in messages %}"
        "{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}"
        "{{ message.content | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    # The tokenizer's template puts the system message into the last user message, and drops it
    # where a reply follows. It is in the first one here, as in Mistral-7B-Instruct-v0.2.
    # Source: mistralai/Mistral-7B-Instruct-v0.3.
    "mistral": (
        _SYSTEM_IN_FIRST_TURN + "{% if message.role == 'user' %}"
        "{{ '[INST] ' + (ns.system if loop.first else '') + message.content + '[/INST]' }}"
        "{% else %}{{ ' ' + message.content | trim + eos_token }}{% endif %}{% endfor %}"
    ),
    # The tokenizer's template adds the end-of-text token after a whole conversation, which
    # `tokenize_chats` does for all templates.
    # Source: microsoft/Phi-3-mini-4k-instruct.
    "phi3": (
        "{% for message in messages %}" + _ONLY_THREE_ROLES + "{{ '<|' + message.role + '|>\\n' }}"
        "{{ message.content + '<|end|>\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
    # ChatML, with the tokenizer's default system message.
    # Source: Qwen/Qwen2.5-0.5B-Instruct.
    "qwen": (
        "{% if messages[0].role != 'system' %}"
        "{{ '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. "
        "You are a helpful assistant.<|im_end|>\\n' }}{% endif %}"
        "{% for message in messages %}" + _ONLY_THREE_ROLES + _CHATML_TURNS
    ),
    # Source: HuggingFaceH4/zephyr-7b-beta.
    "zephyr": (
        "{% for message in messages %}" + _ONLY_THREE_ROLES + "{{ '<|' + message.role + '|>\\n' }}"
        "{{ message.content + eos_token + '\\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
}
