"""Tiny causal models with random weights from a seed, and tokenizers whose tokens reach over every seam."""

from pathlib import Path

MERGES = ["] >", "] > [", " >", " > [", "[1", "12", "[12", "10", "1]", "2]", " [", "00", "100", "the", " the", "an"]
"""Texts that become tokens of their own beside the 256 bytes."""
CONTROL = ["<s>", "</s>", "<pad>", "<|turn|>", "<|end|>"]
TEMPLATE = (
    "{% for m in messages %}<|turn|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% if not (loop.last and m['role'] == 'assistant' and not add_generation_prompt) %}<|end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)
STRICT = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system messages here') }}{% endif %}" + TEMPLATE
)


def byte_tokenizer(template: str | None = TEMPLATE):
    """Byte-level BPE."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = {byte: letter for letter, byte in _letters().items()}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*CONTROL, *alphabet])}
    merges = []
    for text in MERGES:
        parts = [letters[byte] for byte in text.encode()]
        left = parts[0]
        for right in parts[1:]:
            if left + right not in vocab:
                vocab[left + right] = len(vocab)
                merges.append((left, right))
            left += right
    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _wrapped(tokenizer, template)


def sentence_piece_tokenizer(template: str | None = None):
    """BPE with a mark for word starts, put in front of every text, and bytes for what it does not know."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    letters = [chr(code) for code in range(0x21, 0x7F)] + ["▁"]
    pieces = [*CONTROL, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    vocab = {token: i for i, token in enumerate(pieces)}
    merges = []
    for text in MERGES:
        parts = list(text.replace(" ", "▁"))
        left = parts[0]
        for right in parts[1:]:
            if left + right not in vocab:
                vocab[left + right] = len(vocab)
                merges.append((left, right))
            left += right
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _wrapped(tokenizer, template)


def llama(folder: Path, *, seed: int = 0, tokenizer=None, context: int = 2048, **extra) -> Path:
    """A Llama of 2 layers and width 32."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer or byte_tokenizer()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=context, initializer_range=0.4, bos_token_id=0, eos_token_id=1,
        pad_token_id=2, **extra,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def sliding_mistral(folder: Path, *, window: int = 16) -> Path:
    """A Mistral whose layers see ``window`` tokens."""
    import torch
    from transformers import MistralConfig, MistralForCausalLM

    tokenizer = byte_tokenizer()
    torch.manual_seed(1)
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, sliding_window=window, initializer_range=0.4,
        bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def mamba(folder: Path) -> Path:
    """A model without keys and values."""
    import torch
    from transformers import MambaConfig, MambaForCausalLM

    tokenizer = byte_tokenizer()
    torch.manual_seed(2)
    config = MambaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, state_size=8, initializer_range=0.4,
        bos_token_id=0, eos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    MambaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _wrapped(tokenizer, template):
    from tokenizers import AddedToken
    from transformers import PreTrainedTokenizerFast

    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in CONTROL])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", model_max_length=2048
    )
    wrapped.chat_template = template
    return wrapped


def _letters() -> dict[str, int]:
    """The byte alphabet, read from the tokenizers library: letter to byte."""
    from tokenizers import pre_tokenizers

    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    # One text with every byte that UTF-8 knows: all letters of two bytes, and what begins or fills longer ones.
    codes = [*range(0x800), *range(0x800, 0x10000, 0x40), *range(0x10000, 0x110000, 0x1000)]
    text = "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
    spelt = "".join(part for part, _ in splitter.pre_tokenize_str(text))
    return dict(zip(spelt, text.encode(), strict=True))
