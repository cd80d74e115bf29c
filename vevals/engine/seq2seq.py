"""Encoder-decoders: each distinct source is encoded once, for all that is written or scored behind it.

The first step of the decoder, which reads nothing but its start token, is taken once a source as well. It fills the
cross-attention keys and values, which rows of choices and answers then take over by index. No trees here: T5 knows a
position by its index in the row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from vevals.engine.network import Network, attempt, out_of_memory, padded, spread_tokens
from vevals.engine.plan import Limits, Work, batches
from vevals.engine.sampling import choose, uniform
from vevals.engine.score import Likelihood
from vevals.engine.stops import Text
from vevals.engine.trie import Tokens
from vevals.engine.writing import Answer, Prompt, Writing, writings
from vevals.errors import ModelError

if TYPE_CHECKING:
    import torch

Pair = tuple[Tokens, Tokens]
"""(source, target), both of at least one token."""

ROWS = {"cpu": 32, "cuda": 256}
"""Most answers that are written at the same time."""
ENCODED = {"cpu": 0.125}
"""How much of the budget of tokens the encoder gets at once."""


class EncoderDecoder:
    """A loaded encoder-decoder. Call its methods under ``torch.inference_mode()`` (``attempt`` does).

    ``limit``: most tokens of a source; by default the size of the encoder's table of positions, else what the config
    or the tokenizer says.
    """

    def __init__(self, network: Network, limit: int | None = None) -> None:
        config, generation = network.model.config, network.model.generation_config
        self.network, self.model = network, network.model
        start = getattr(config, "decoder_start_token_id", None)
        self.start: int | None = start if start is not None else generation.decoder_start_token_id
        self.forced: int | None = generation.forced_bos_token_id
        """The token that every generated text begins with: in many-language models it says which one is written."""
        table = _positions(config, "encoder")
        self.longest_source = min(limit or table or network.max_length, table or limit or network.max_length)
        self.longest_target = _positions(config, "decoder")
        self._head: Callable[[torch.Tensor], torch.Tensor] | None = None
        self._continues = self._settled = False

    def encode(self, sources: Sequence[Tokens]) -> Sources:
        """Hidden states (S, E, d) of sources, with the decoder's first step behind them."""
        tensor = self.network.tensor
        mask = tensor(padded([[1] * len(source) for source in sources]))  # (S, E)
        hidden = self.model.get_encoder()(input_ids=tensor(padded(sources)), attention_mask=mask).last_hidden_state
        found = Sources(hidden, mask, _empty_cache(), None)
        found.first = self.read(found, tensor([[self._start()]] * len(sources)))[:, 0]
        return found

    def _start(self) -> int:
        if self.start is None:
            name = type(self.model).__name__
            raise ModelError(f"{name} has no decoder_start_token_id in its config; add it, as its training had it")
        return self.start

    def read(self, sources: Sources, tokens: torch.Tensor) -> torch.Tensor:
        """Features (B, T, d or V) for the next ``tokens`` (B, T) of the decoder; the cache grows by them."""
        self._settle()
        state = {"past_key_values": sources.cache, "use_cache": True}
        if self._head is not None:
            shown = {"encoder_hidden_states": sources.hidden, "encoder_attention_mask": sources.mask}
            return self.model.get_decoder()(input_ids=tokens, **shown, **state).last_hidden_state
        shown = {"encoder_outputs": _output(sources.hidden), "attention_mask": sources.mask}
        return self.model(decoder_input_ids=tokens, **shown, **state).logits

    def follow(self, sources: Sources, places: Sequence[int], chains: Sequence[Tokens]) -> torch.Tensor:
        """Features (B, T, d or V) for chains of tokens behind the first step of the sources at ``places`` (B,)."""
        self._settle()
        if not self._continues:
            name = type(self.model).__name__
            raise ModelError(
                f"{name} takes one token after the other and cannot score choices; let it generate answers"
            )
        return self.read(sources.rows(self.network.tensor(places)), self.network.tensor(padded(chains)))

    def logits(self, features: torch.Tensor) -> torch.Tensor:
        """Float32 logits (N, V) for chosen features (N, d or V)."""
        return (features if self._head is None else self._head(features)).float()

    def _settle(self) -> None:
        """Find, once, what of the model is its head, and whether its cache takes several tokens at a time.

        Both are tried against the model's own logits. Without a head of its own the whole model is asked.
        """
        if self._settled:
            return
        self._settled = True
        size = self.model.config.get_text_config().vocab_size
        source, target = spread_tokens(size, 6), [self._start(), *spread_tokens(size, 3)]
        tensor = self.network.tensor
        shape = {"input_ids": tensor([source]), "decoder_input_ids": tensor([target])}
        whole = self.model(**shape, use_cache=False).logits.float()  # (1, 4, V)
        for trial in (self._find_head, self._try_cache):
            try:
                trial(tuple(source), tuple(target), whole)
            except (AssertionError, AttributeError, IndexError, TypeError, ValueError, RuntimeError) as error:
                if out_of_memory(error):
                    self._settled = False
                    raise

    def _find_head(self, source: Tokens, target: Tokens, whole: torch.Tensor) -> None:
        import torch

        def same(own: torch.Tensor) -> bool:
            return own.shape == whole.shape and bool(torch.allclose(own.float(), whole, rtol=1e-3, atol=1e-4))

        tensor = self.network.tensor
        shown = self.model.get_encoder()(input_ids=tensor([source])).last_hidden_state
        decoder = self.model.get_decoder()
        features = decoder(input_ids=tensor([target]), encoder_hidden_states=shown, use_cache=False).last_hidden_state
        self._head = next((head for head in self._heads() if same(head(features))), None)

    def _try_cache(self, source: Tokens, target: Tokens, whole: torch.Tensor) -> None:
        agrees, self._continues = False, True
        try:
            own = self.logits(self.follow(self.encode([source]), [0], [target[1:]])).log_softmax(-1)
            plain = whole[:, 1:].log_softmax(-1)
            limit = self.network.tolerance(1) + 1e-4 * plain.abs()
            agrees = bool(((own - plain).abs() <= limit)[plain > plain.max() - 10].all())
        finally:
            self._continues = agrees

    def _heads(self) -> Iterator[Callable[[torch.Tensor], torch.Tensor]]:
        """The output embeddings alone, as T5 scales what goes into them, and as BART adds to what comes out."""
        matrix = self.model.get_output_embeddings()
        scale = self.model.config.get_text_config().hidden_size ** -0.5
        yield matrix
        yield lambda features: matrix(features * scale)
        if (bias := getattr(self.model, "final_logits_bias", None)) is not None:
            yield lambda features: matrix(features) + bias


def _positions(config: Any, side: str) -> int | None:
    """Size of a side's table of positions; None where positions are relative, and so without bound."""
    names = (f"max_{side}_position_embeddings", "max_position_embeddings")
    return next((int(size) for name in names if (size := getattr(config, name, None))), None)


@dataclass(slots=True)
class Sources:
    """Encoded sources: hidden states (S, E, d), mask (S, E), cache, and the features (S, d or V) of the first token."""

    hidden: torch.Tensor
    mask: torch.Tensor
    cache: Any
    first: Any

    def rows(self, places: torch.Tensor) -> Sources:
        """The sources at ``places`` (B,), as often as they are named. A single source is shown to all, not copied."""
        if len(self.mask) == 1 and len(places) > 1:
            count = len(places)
            cache = _copied(self.cache, lambda part: part.expand(count, *part.shape[1:]))
            return Sources(self.hidden.expand(count, -1, -1), self.mask.expand(count, -1), cache, self.first)
        cache = _copied(self.cache, lambda part: part.index_select(0, places.to(part.device)))
        return Sources(self.hidden[places.to(self.hidden.device)], self.mask[places], cache, self.first)

    def keep(self, places: torch.Tensor) -> None:
        """Only the rows at ``places`` (B,), in place."""
        self.hidden, self.mask = self.hidden[places.to(self.hidden.device)], self.mask[places]
        self.cache.reorder_cache(places)


def _output(hidden: torch.Tensor) -> Any:
    from transformers.modeling_outputs import BaseModelOutput

    return BaseModelOutput(last_hidden_state=hidden)


def _empty_cache() -> Any:
    from transformers import DynamicCache, EncoderDecoderCache

    return EncoderDecoderCache(DynamicCache(), DynamicCache())


def _copied(cache: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """A cache with ``change`` made to all keys and values; the old one stays as it is.

    The layers are filled by hand: their own ``update`` would copy what ``change`` may only have expanded.
    """
    from transformers import DynamicCache, EncoderDecoderCache
    from transformers.cache_utils import DynamicLayer

    parts = []
    for old in (cache.self_attention_cache, cache.cross_attention_cache):
        new = DynamicCache()
        for layer in old.layers:
            other = DynamicLayer()
            other.keys, other.values = change(layer.keys), change(layer.values)
            other.dtype, other.device, other.is_initialized = layer.dtype, layer.device, True
            new.layers.append(other)
        parts.append(new)
    return EncoderDecoderCache(*parts)


# --- scoring --------------------------------------------------------------------------------------------------------


def likelihoods(pair: EncoderDecoder, pairs: Sequence[Pair], budget: int) -> Iterator[tuple[int, Likelihood | None]]:
    """The likelihood of each pair, by its index, as it is known; None for one that does not fit into memory alone.

    ``budget``: tokens in a forward pass of several rows; what a row of the decoder looks at counts with it. A CPU
    reads sources as fast in smaller batches, which hold less padding.
    """
    askers: dict[Tokens, dict[Tokens, list[int]]] = {}
    for index, (source, target) in enumerate(pairs):
        askers.setdefault(source, {}).setdefault(target, []).append(index)
    asked = list(askers)
    lengths = [len(source) for source in asked]
    share = ENCODED.get(pair.network.device.type, 1)
    work = Work(batches(lengths, Limits(max(1, int(share * budget)), pair.network.head_rows)), lengths)
    for batch in work:
        members = {asked[place]: tuple(askers[asked[place]]) for place in batch}
        found = attempt(partial(_scored, pair, members, budget))
        if found is None and len(batch) == 1:
            found = attempt(partial(_scored, pair, members, 1))
        if found is None and work.failed(batch) is None:
            continue
        for source in members:
            for target, indices in askers[source].items():
                yield from ((index, found[source, target] if found else None) for index in indices)


def _scored(pair: EncoderDecoder, members: Mapping[Tokens, Sequence[Tokens]], budget: int) -> dict[Pair, Likelihood]:
    """The likelihood of each target of some sources that are encoded together."""
    started = time.perf_counter()
    targets = [_Targets(place, found) for place, found in enumerate(members.values())]
    sources = pair.encode(list(members))
    _read(pair, sources.first, [(one, one.place, ()) for one in targets])
    rows = [(one, chain) for one in targets for chain in one.chains]
    shown = sources.mask.shape[1]
    most = max(1, pair.network.head_rows // max((len(chain) for _, chain in rows), default=1))
    for batch in batches([shown + len(chain) for _, chain in rows], Limits(budget, most)):
        _read_chains(pair, sources, [rows[place] for place in batch])
    seconds = (time.perf_counter() - started) / sum(map(len, members.values()))
    pairs = zip(members.items(), targets, strict=True)
    return {(source, target): one.likelihood(target, seconds) for (source, found), one in pairs for target in found}


class _Targets:
    """The distinct targets of the source at ``place``, and what is known of their tokens.

    ``following``: the tokens that are asked for behind each prefix, until somebody has them read.
    """

    def __init__(self, place: int, targets: Sequence[Tokens]) -> None:
        self.place = place
        self.following: dict[Tokens, list[int]] = {}
        self.known: dict[Tokens, tuple[float, bool]] = {}
        prefixes = {target[:end] for target in targets for end in range(1, len(target) + 1)}
        for prefix in sorted(prefixes):
            self.following.setdefault(prefix[:-1], []).append(prefix[-1])

    @property
    def chains(self) -> list[Tokens]:
        """What the decoder has to read behind its start token: no chain begins another one."""
        prefixes = sorted(prefix for prefix in self.following if prefix)
        return [one for one, other in pairwise([*prefixes, ()]) if other[: len(one)] != one]

    def likelihood(self, target: Tokens, seconds: float) -> Likelihood:
        parts = [self.known[target[:end]] for end in range(1, len(target) + 1)]
        return Likelihood(sum(value for value, _ in parts), all(best for _, best in parts), seconds)


def _read_chains(pair: EncoderDecoder, sources: Sources, rows: Sequence[tuple[_Targets, Tokens]]) -> None:
    """One forward pass over chains; each prefix that they share is read in one of them."""
    tensor = pair.network.tensor
    features = pair.follow(sources, [one.place for one, _ in rows], [chain for _, chain in rows])  # (B, T, d or V)
    nodes: dict[tuple[int, Tokens], tuple[_Targets, int, int]] = {}
    for number, (one, chain) in enumerate(rows):
        for end in range(1, len(chain) + 1):
            if chain[:end] in one.following:
                nodes.setdefault((one.place, chain[:end]), (one, number, end - 1))
    index = tensor([place for _, *place in nodes.values()]).to(features.device)
    asked = [(one, row, prefix) for row, ((_, prefix), (one, *_)) in enumerate(nodes.items())]
    _read(pair, features[index[:, 0], index[:, 1]], asked)


def _read(pair: EncoderDecoder, features: torch.Tensor, asked: Sequence[tuple[_Targets, int, Tokens]]) -> None:
    """Note the log-probability of every token that is asked for behind a prefix; ``features`` (N, d or V).

    Each asks for (whom, row of ``features``, prefix). Log-softmax is in float32, and only as many rows pass the head at
    once as memory is given for. One copy to the host.
    """
    import torch

    edges = [(row, token, one, prefix) for one, row, prefix in asked for token in one.following.pop(prefix, ())]
    table = pair.network.tensor([edge[:2] for edge in edges])  # (edges, 2)
    step, values, best = pair.network.head_rows, [], []
    for start in range(0, len(features), step):
        logits = pair.logits(features[start : start + step])  # (n, V)
        inside = table[(table[:, 0] >= start) & (table[:, 0] < start + step)].to(logits.device)
        row, token = inside[:, 0] - start, inside[:, 1]
        values.append(logits[row, token] - logits.logsumexp(-1)[row])
        best.append(logits.argmax(-1)[row] == token)
    found = torch.stack([torch.cat(values), torch.cat(best).float()], -1).tolist()
    for (_, token, one, prefix), (value, greedy) in zip(edges, found, strict=True):
        one.known[(*prefix, token)] = (value, bool(greedy))


# --- writing --------------------------------------------------------------------------------------------------------


def answers(
    pair: EncoderDecoder, prompts: Sequence[Prompt], text: Text, budget: int
) -> Iterator[tuple[int, Answer | None]]:
    """The answer to each prompt, by its index, as it ends; None for one that does not fit into memory alone.

    ``text`` decodes new tokens; ``budget``: tokens of the sources that are answered together. When memory runs out,
    only the rows that had not ended start again, in two halves.
    """
    lengths = [len(prompt.tokens) for prompt in prompts]
    most = min(ROWS.get(pair.network.device.type, 32), pair.network.head_rows)
    work = Work(batches(lengths, Limits(budget, most)), lengths)
    for batch in work:
        fresh = writings([prompts[place] for place in batch], text)
        running = _Batch(pair, fresh)
        while running.live:
            ended = attempt(running.advance)
            if ended is None:
                rest = tuple(batch[one.index] for one in running.live)
                if len(rest) < len(batch):
                    work.again(rest)
                elif (hopeless := work.failed(rest)) is not None:
                    yield hopeless, None
                break
            yield from ((batch[one.index], one.answer) for one in ended)


class _Batch:
    """Prompts that are answered together. ``advance`` writes one token of each, and gives those that it ended."""

    def __init__(self, pair: EncoderDecoder, rows: Sequence[Writing]) -> None:
        self._pair, self._rows = pair, list(rows)
        self._sources: Sources | None = None

    @property
    def live(self) -> list[Writing]:
        """Those without an answer yet."""
        return [row for row in self._rows if row.live]

    def advance(self) -> list[Writing]:
        """One more token for every row."""
        started = time.perf_counter()
        features = self._first() if self._sources is None else self._next(self._sources)
        tokens = self._choose(self._pair.logits(features))
        rows = [(row, token) for row, token in zip(self._rows, tokens, strict=True) if row.live]
        share = (time.perf_counter() - started) / len(rows)
        for row, token in rows:
            row.add(token, share)
        return [row for row, _ in rows if not row.live]

    def _first(self) -> torch.Tensor:
        """Encode each distinct source; features (B, d or V) of the first tokens."""
        distinct = list(dict.fromkeys(row.prompt.tokens for row in self._rows))
        encoded = self._pair.encode(distinct)
        if len(distinct) == len(self._rows):
            self._sources = encoded
            return encoded.first
        place = {source: number for number, source in enumerate(distinct)}
        index = self._pair.network.tensor([place[row.prompt.tokens] for row in self._rows])
        self._sources = encoded.rows(index)
        return encoded.first[index.to(encoded.first.device)]

    def _next(self, sources: Sources) -> torch.Tensor:
        """Features (B, d or V) behind the tokens chosen last. Rows that ended are dropped once they are half of all."""
        tensor = self._pair.network.tensor
        live = [number for number, row in enumerate(self._rows) if row.live]
        if len(live) * 2 <= len(self._rows):
            sources.keep(tensor(live))
            self._rows = [self._rows[number] for number in live]
        return self._pair.read(sources, tensor([[row.tokens[-1]] for row in self._rows]))[:, 0]

    def _choose(self, logits: torch.Tensor) -> list[int]:
        if self._pair.forced is not None and not self._rows[0].tokens:
            return [self._pair.forced] * len(self._rows)
        draws = [(row.prompt.options, uniform(row.prompt.draw, len(row.tokens))) for row in self._rows]
        chosen: list[int] = choose(logits, draws).tolist()
        return chosen
