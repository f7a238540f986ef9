"""Any Hugging Face causal language model behind the LanguageModel protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from allmrec.core.devices import chosen_device
from allmrec.core.errors import ConfigError
from allmrec.core.frozen import Frozen
from allmrec.core.words import Words
from allmrec.llm.cutting import layers_of
from allmrec.llm.decoding import CachedDecoding, RereadDecoding
from allmrec.llm.language_model import Decoding, KeysAndValues
from allmrec.llm.precision import Precision, keep_weights, loading_arguments
from allmrec.llm.probe import cut_body, found_out
from allmrec.llm.reading import Reader
from allmrec.llm.sharing import share_out

__all__ = ["TransformersLM", "load_language_model"]


class TransformersLM:
    """Wraps a transformers model and its tokenizer; the model is frozen from here on.

    What the model can is found out by reading a dozen tokens in several ways (`llm/probe.py`), and not by its name.

    Args:
        model: a causal language model whose body takes `inputs_embeds`.
        tokenizer: its tokenizer; from here on it takes every text for words, and puts no blank before a text by itself.
        name: what to call it in manifests.

    Raises:
        ConfigError: the tokenizer has no end-of-text token; the model sees what comes later; or what it gives on embeddings is not
            what it gives on tokens.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self._model = Frozen(model)
        self._tokenizer = tokenizer
        self._name = name
        self._bodies: dict[int, nn.Module] = {}
        weight = model.get_input_embeddings().weight
        self._dim = int(weight.shape[1])
        eos = tokenizer.eos_token_id
        if eos is None:
            raise ConfigError(f"The tokenizer of {name} has no end-of-text token; a title could not be ended. Set one.")
        self._eos = int(eos)
        # What the tokenizer itself puts before any text; a token that it puts behind (EOS) is no prefix.
        around = tokenizer("", add_special_tokens=True)["input_ids"]
        probe = tokenizer("a", add_special_tokens=True)["input_ids"]
        self._prefix = tuple(int(i) for i in around if probe and probe[0] == i)[:1]
        self._reader = Reader(model, name)
        self._depth = int(self._reader.config.num_hidden_layers)
        self._facts = found_out(self._reader)
        self._hidden_dim = self._facts.hidden_dim
        # Some models' embeddings are scaled by the module that holds them.
        self._factor = self._reader.embedding_factor()
        self._scale = self._factor * float(weight.detach().float().square().mean().sqrt())
        self._words = Words(tokenizer, in_pieces=True)
        self._is_shared = False

    @property
    def name(self) -> str:
        return self._name

    @property
    def frozen(self) -> Frozen:
        """The frozen model, for tests that compare its bytes."""
        return self._model

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def hidden_dim(self) -> int:
        return self._hidden_dim

    @property
    def depth(self) -> int:
        return self._depth

    @property
    def max_tokens(self) -> int:
        return self._reader.max_tokens

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        return self._prefix

    @property
    def eos_id(self) -> int:
        return self._eos

    @property
    def device(self) -> torch.device:
        device: torch.device = self._model.module.get_input_embeddings().weight.device
        return device

    @property
    def is_shared(self) -> bool:
        """Whether its layers' weights lie in parts on several processes, which must then call it equally often."""
        return self._is_shared

    def share_layers(self, device: str | torch.device) -> None:
        """Keep a part of each layer's weights here, and the other parts in the other processes (`share_out`).

        Embeddings and head stay whole. From here on every process must call the model equally often.

        Args:
            device: where the processes compute; what is not shared goes there whole.

        Raises:
            ConfigError: its weights are quantised, or it keeps its layers in no list.
        """
        layers = layers_of(self._reader.body, self._depth, self._name)
        share_out(self._model.module, layers, torch.device(device), self._name)
        self._is_shared = True
        # The room for whole layers is made at the first call, and what is made in inference mode takes no gradient later.
        with torch.inference_mode(False), torch.no_grad():
            ids = torch.tensor([[self._eos]], device=self.device)
            self.hidden(self.embed(ids), None, torch.zeros_like(ids))

    @property
    def embedding_scale(self) -> float:
        return self._scale

    def embedding_moments(self) -> tuple[Float[Tensor, " dim"], Float[Tensor, "dim dim"]]:
        weight = self._model.module.get_input_embeddings().weight.detach().float()
        return self._factor * weight.mean(dim=0), self._factor**2 * torch.cov(weight.T)

    def tokenize(self, text: str) -> list[int]:
        return self._words.ids(text)

    def detokenize(self, ids: Sequence[int]) -> str:
        return self._words.text(ids)

    @property
    def reads_trees(self) -> bool:
        return self._facts.trees

    @property
    def keeps_places(self) -> bool:
        return self._facts.keeps

    def embed(self, ids: Int[Tensor, " *shape"]) -> Float[Tensor, "*shape dim"]:
        return self._reader.embed(ids)

    def hidden(
        self,
        embeddings: Float[Tensor, "batch tokens dim"],
        visible: Bool[Tensor, "batch tokens tokens"] | None,
        positions: Int[Tensor, "batch tokens"],
        layers: int | None = None,
    ) -> Float[Tensor, "batch tokens hidden"]:
        if visible is not None and not self._facts.trees:
            raise self._no_trees("A text whose places see chosen places alone")
        body = self._body(self._depth if layers is None else layers)
        state: Tensor = self._reader.read(embeddings, positions, visible, body=body).last_hidden_state
        return state

    def check_layers(self, layers: int) -> None:
        self._body(layers)

    def branches(
        self, prompt: Float[Tensor, "tokens dim"], branches: Float[Tensor, "branches further dim"]
    ) -> tuple[Float[Tensor, " hidden"], Float[Tensor, "branches further hidden"]]:
        body = self._body(self._depth)
        if self._facts.shares and not torch.is_grad_enabled():
            return self._reader.read_branches(prompt, branches, body)
        embeddings = torch.cat([prompt.expand(len(branches), -1, -1), branches], dim=1)
        positions = torch.arange(embeddings.shape[1], device=embeddings.device).expand(len(embeddings), -1)
        state = self._reader.read(embeddings, positions, body=body).last_hidden_state
        return state[0, len(prompt) - 1], state[:, len(prompt) :]

    @torch.inference_mode()
    def keep(
        self,
        embeddings: Float[Tensor, "batch tokens dim"],
        visible: Bool[Tensor, "batch tokens kept_and_tokens"],
        positions: Int[Tensor, "batch tokens"],
        behind: KeysAndValues | None = None,
    ) -> KeysAndValues:
        if not self._facts.keeps:
            raise self._no_trees("Reading places behind kept keys and values")
        output = self._read_behind(behind, embeddings, visible, positions)
        layers, new = output.past_key_values.layers, embeddings.shape[1]
        return KeysAndValues(
            torch.stack([layer.keys[..., -new:, :] for layer in layers]),
            torch.stack([layer.values[..., -new:, :] for layer in layers]),
            positions,
        )

    @torch.inference_mode()
    def hidden_behind(
        self,
        behind: KeysAndValues,
        embeddings: Float[Tensor, "batch tokens dim"],
        visible: Bool[Tensor, "batch tokens kept_and_tokens"],
        positions: Int[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch tokens hidden"]:
        state: Tensor = self._read_behind(behind, embeddings, visible, positions).last_hidden_state
        return state

    @torch.inference_mode()
    def attention(
        self,
        embeddings: Float[Tensor, "batch tokens dim"],
        visible: Bool[Tensor, "batch tokens tokens"] | None,
        positions: Int[Tensor, "batch tokens"],
        places: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch layers heads tokens"]:
        batch, tokens, _ = embeddings.shape
        rows = torch.arange(batch, device=embeddings.device)
        if visible is None:
            visible = (
                torch.ones(tokens, tokens, dtype=torch.bool, device=embeddings.device).tril().expand(batch, -1, -1)
            )
        # Reading the whole prompt with its attention weights kept would take tokens² numbers a head. So the prompt is read
        # as always, and then its one place again, behind the keys and values of the others.
        kept = self.keep(embeddings, visible, positions)
        seen = visible[rows, places].clone()
        seen[rows, places] = False
        seen = torch.cat([seen, seen.new_ones(batch, 1)], dim=1)
        with self._eager_attention():
            output = self._read_behind(
                kept,
                embeddings[rows, places][:, None],
                seen[:, None],
                positions[rows, places][:, None],
                output_attentions=True,
            )
        given = [] if output.attentions is None else [weights for weights in output.attentions if weights is not None]
        if len(given) != self._depth or len({weights.shape for weights in given}) != 1:
            raise ConfigError(
                f"{self._name} ({type(self._model.module).__name__}) gives attention weights of {len(given)} of its "
                f"{self._depth} layers; expected the same number of heads in every layer. Use a language model whose "
                "layers all have plain attention, as OPT and Llama do."
            )
        weights = torch.stack(given, dim=1)[..., 0, :].float()
        shares = weights[..., :-1].clone()
        shares[rows, :, :, places] = weights[..., -1]
        return shares

    @contextmanager
    def _eager_attention(self) -> Iterator[None]:
        """Within it attention is computed step by step, which is the only way that gives its weights."""
        model = self._model.module
        parts = {part: getattr(model.config, part, None) for part in model.config.sub_configs}
        before = {part: config._attn_implementation for part, config in parts.items() if config is not None}
        before[""] = model.config._attn_implementation
        model.set_attn_implementation("eager")
        try:
            yield
        finally:
            model.set_attn_implementation(before)

    def _read_behind(
        self, behind: KeysAndValues | None, embeddings: Tensor, visible: Tensor, positions: Tensor, **options: bool
    ) -> Any:
        return self._reader.read_behind(behind, embeddings, visible, positions, self._body(self._depth), **options)

    def logits(self, hidden: Float[Tensor, "places hidden"]) -> Float[Tensor, "places vocabulary"]:
        return self._reader.head(hidden)

    def decode(
        self,
        embeddings: Float[Tensor, "batch tokens dim"],
        lengths: Int[Tensor, " batch"],
        positions: Int[Tensor, "batch tokens"] | None = None,
        visible: Bool[Tensor, "batch tokens tokens"] | None = None,
    ) -> Decoding:
        body = self._body(self._depth)
        if visible is not None and not self._facts.keeps:
            raise self._no_trees("A text whose places see chosen places alone")
        if visible is None and not self._facts.decodes:
            return RereadDecoding(self._reader, embeddings, lengths, body)
        return CachedDecoding(self._reader, embeddings, lengths, positions, visible, body)

    def _no_trees(self, what: str) -> ConfigError:
        return ConfigError(
            f"{what} cannot be had of {self._name} ({type(self._model.module).__name__}): its layers read a text in order "
            "and take no word on which places to see. Use the prompt's form `paper`, or a language model with plain attention, "
            "as Llama and OPT have."
        )

    def _body(self, layers: int) -> nn.Module:
        """The model's body cut after `layers` layers, sharing every weight with the whole."""
        if not 1 <= layers <= self._depth:
            raise ConfigError(
                f"{self._name} has {self._depth} layers; {layers} cannot be run. Give 1 to {self._depth}."
            )
        body = self._reader.body
        if layers == self._depth:
            return body
        if layers not in self._bodies:
            self._bodies[layers] = cut_body(self._reader, layers)
        return self._bodies[layers]


def load_language_model(
    name: str | Path,
    device: str | torch.device = "auto",
    precision: Precision = "auto",
    trust_remote_code: bool = False,
    *,
    on_cpu: bool = False,
) -> TransformersLM:
    """Load a causal language model by name or folder; GGUF folders and packaged models included.

    Args:
        name: a packaged model's name, a hub name, or a folder.
        device: where to put it; auto: the GPU where there is one.
        precision: how its weights are held; auto: bfloat16 on a GPU and on a CPU that is faster at it, else float32.
        trust_remote_code: whether Python files that come with it may run; they can do all that the user can.
        on_cpu: leave it in the CPU's memory, in the precision that it has on `device`, for `share_layers` to put there in parts.

    Raises:
        ModelNotFoundError: it is neither on this machine nor reachable; or damaged, without some of its weights, an
            adapter, or no causal language model.
        MissingExtraError: int8 or int4 without their package.
        ConfigError: int8 or int4 on a device that cannot.
    """
    from allmrec.llm.files import check_causal, read_language_model  # slow to import, needed by this function alone
    from allmrec.llm.gguf import resolve_language_model

    where = resolve_language_model(str(name))
    device = torch.device(chosen_device(str(device)))
    arguments = loading_arguments(precision, device)
    model, tokenizer = read_language_model(where, str(name), arguments, trust_remote_code)
    keep_weights(model)
    if "quantization_config" not in arguments and not on_cpu:
        model.to(device)
    model.eval()
    check_causal(model, where, str(name))
    return TransformersLM(model, tokenizer, str(name))
