"""Generation through vLLM, for GPUs: the passes of `calora.generation`, adapters as LoRA requests.

Written to vLLM's documented interface (https://docs.vllm.ai, `LLM.generate` and `LoRARequest`), and tested against a
recorded one alone: no GPU was at hand.
"""

import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from calora.adapter import Adapter, adapter_sha256, write_adapter
from calora.backbone import Backbone
from calora.embedded import EMBEDDED
from calora.encoding import encode_prompt
from calora.errors import CaloraError
from calora.export.ranks import fit_rank
from calora.generation import Answer, Pass, answer_length
from calora.packing import split_packing

# The ranks that vLLM takes (`vllm.config.lora`).
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_CHUNK = 256


class VllmGenerator:
    """A backbone in vLLM; adapters are written once and known to it by their content.

    Args:
        backbone: Loaded; its tokenizer encodes, its weights stay for training.
        rank: The highest that an adapter may have: that of three adapters of rank 32 and a column bias, if left out.
        share: Of the GPU's memory that vLLM may take, as the backbone is there already.

    Raises:
        CaloraError: vLLM is not installed, or cannot load such a backbone.
    """

    def __init__(self, backbone: Backbone, rank: int = 128, share: float = 0.5) -> None:
        name, packing = split_packing(backbone.name)
        if packing or name in EMBEDDED:
            raise CaloraError(f"vLLM cannot load {backbone.name}", "give a model of the hub or a folder, as it is")
        model, _, revision = (name, "", "") if Path(name).exists() else name.partition("@")
        try:
            from vllm import LLM
        except ImportError as error:
            raise CaloraError("vLLM is not installed", "pip install vllm, or leave out `engine: vllm`") from error
        self.backbone = backbone
        self._rank = min(allowed for allowed in RANKS if allowed >= rank)
        self._model: Any = LLM(
            model=model,
            revision=revision or None,
            enable_lora=True,
            max_lora_rank=self._rank,
            max_model_len=backbone.context,
            gpu_memory_utilization=share,
        )
        self._folder = Path(tempfile.mkdtemp(prefix="calora-vllm-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._requests: dict[str, Any] = {}

    def answer_all(
        self,
        passes: Sequence[Pass],
        texts: Sequence[str],
        *,
        max_tokens: int,
        follow: Callable[[int], None] = lambda _: None,
    ) -> list[Answer]:
        """Answer texts greedily; arguments and result as of `calora.generation.answer_all`.

        Raises:
            CaloraError: A pass has an update that is no adapter, or of too high a rank.
        """
        from vllm import SamplingParams

        wanted = SamplingParams(temperature=0.0, max_tokens=max_tokens)
        answers = [Answer(text.strip(), 0, False, 0.0) for text in texts]
        for step in passes:
            request = None if step.adapter is None else self._request(step.adapter)
            waiting = [index for index, answer in enumerate(answers) if answer.text]
            for start in range(0, len(waiting), _CHUNK):
                chunk = waiting[start : start + _CHUNK]
                limit = self.backbone.context - max_tokens
                prompts = [
                    encode_prompt(self.backbone.tokenizer, step.prompt, answers[index].text, limit) for index in chunk
                ]
                begin = time.perf_counter()
                outputs = self._model.generate(
                    [{"prompt_token_ids": ids} for ids in prompts], wanted, lora_request=request, use_tqdm=False
                )
                share = (time.perf_counter() - begin) / len(chunk)
                for index, ids, output in zip(chunk, prompts, outputs, strict=True):
                    before, found = answers[index], output.outputs[0]
                    count, ended = answer_length(self.backbone.tokenizer, found.token_ids)
                    answers[index] = Answer(
                        found.text.lstrip().partition("\n")[0].strip(),  # a line break behind some text ends it
                        before.tokens + count,
                        found.finish_reason == "length" and not ended,
                        before.seconds + share,
                        before.prompt_tokens + len(ids),
                    )
                follow(len(chunk))
        return answers

    def _request(self, adapter: Any) -> Any:
        """What names an adapter to vLLM: its content, as a new one under an old name may be answered from the cache."""
        from vllm.lora.request import LoRARequest

        if not isinstance(adapter, Adapter):
            raise CaloraError("vLLM takes adapters alone", "merge by a method that gives one, or cut to a rank")
        if adapter.rank > self._rank:
            raise CaloraError(f"an adapter has rank {adapter.rank}, vLLM was started for {self._rank}", "give a rank")
        fitted, _ = fit_rank(adapter, min(allowed for allowed in RANKS if allowed >= adapter.rank))
        draft = self._folder / "draft"
        write_adapter(fitted, draft)
        name = adapter_sha256(draft)
        if name not in self._requests:
            place = draft.rename(draft.with_name(name))
            self._requests[name] = LoRARequest(name, len(self._requests) + 1, str(place))
        return self._requests[name]
