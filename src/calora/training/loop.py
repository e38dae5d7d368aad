"""The training loop that adapters and calibrations share: transformers' Trainer over the learnt parameters alone."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from calora.console import shown
from calora.errors import FolderError
from calora.processes import count_of, is_first
from calora.storage import alone_in, fingerprint, write_text
from calora.training.data import Examples, GroupedSampler, collate
from calora.training.learner import Learner
from calora.training.settings import TrainingSettings

Judge = Callable[[], float]


class _Trainer(Trainer):
    """Adds to Trainer: an order that survives a restart, and a validation score that may be more than loss."""

    judge: Judge | None = None
    settings: TrainingSettings

    def _get_train_sampler(self, train_dataset: Any = None) -> GroupedSampler:
        together = self.settings.batch_size * self.args.world_size  # what one step takes, of all processes
        return GroupedSampler(self.train_dataset, together, self.settings.seed)  # type: ignore[arg-type]

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Add `eval_score`, by which the best epoch is chosen: the judge's figure (loss breaks ties), or the loss."""
        metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        score = -metrics["eval_loss"]
        if self.judge is not None:
            learner: Any = self.model
            with learner.precision():
                metrics["eval_judge"] = self.judge()
            score = metrics["eval_judge"] + 1e-3 * score
        metrics["eval_score"] = score
        self.log({"eval_score": score, **{key: metrics[key] for key in ("eval_judge",) if key in metrics}})
        return metrics


class _Follow(TrainerCallback):
    """A progress bar with loss, tokens/s and time left; stops when validation loss no longer falls."""

    def __init__(self, learner: Learner, title: str, patience: int) -> None:
        self.learner = learner
        self.title = title
        self.patience = patience
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[notes]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            auto_refresh=False,
        )
        self.task: TaskID | None = None
        self.loss = float("nan")
        self.best = ""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.task = self.bar.add_task(self.title, total=state.max_steps, completed=state.global_step, notes="")
        self.begin, self.counted = time.monotonic(), self.learner.tokens

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        speed = (self.learner.tokens - self.counted) / max(1e-9, time.monotonic() - self.begin)
        notes = f"loss {self.loss:5.3f}{self.best}  {speed:5.0f} tokens/s"
        if self.task is not None:
            self.bar.update(self.task, completed=state.global_step, notes=notes)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        self.loss = (logs or {}).get("loss", self.loss)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
        self.best = f"  validation {min(losses):5.3f}"
        if _stops(losses, self.patience):
            control.should_training_stop = True


def _stops(losses: list[float], patience: int) -> bool:
    """Whether validation loss has not fallen for so many epochs."""
    return len(losses) - 1 - losses.index(min(losses)) >= patience


def _epochs_left(checkpoint: str | None, settings: TrainingSettings) -> int:
    """How many epochs there will be in all: no more than there were, where training had stopped by itself."""
    if checkpoint is None:
        return settings.epochs
    state = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
    losses = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
    return round(state.epoch or 0) if losses and _stops(losses, settings.patience) else settings.epochs


def _claim(
    work: Path, learner: Learner, data: tuple[Examples, Examples], settings: TrainingSettings, title: str
) -> None:
    """Write down whose checkpoints a folder holds.

    A claim on a folder without a whole checkpoint holds nothing, and gives way.

    Raises:
        FolderError: They are another training's, which would be taken for this one's.
    """
    start = {name: value.cpu().numpy().tobytes() for name, value in learner.values().items()}
    values = {name: hashlib.sha256(value).hexdigest() for name, value in start.items()}
    beside = [learner.backbone.sha256, learner.frozen, title]
    own = fingerprint([*beside, settings.model_dump(), values, [part.identity for part in data]])
    claim = work / "training.json"
    claimed = json.loads(claim.read_text(encoding="utf-8")) if claim.exists() else None
    if claimed is None or (claimed != own and _last_checkpoint(work) is None):
        if is_first():
            write_text(claim, json.dumps(own))
    elif claimed != own:
        raise FolderError(
            f"{work} holds the checkpoints of another training: of other data, settings or adapters",
            "give another folder, or remove it to train anew",
        )


def _at_home(checkpoint: Path) -> str:
    """A checkpoint whose state finds the best one beside it, wherever the folder was when it was written."""
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    best = state.best_model_checkpoint
    here = None if best is None else str(checkpoint.parent / Path(best).name)
    if best != here and is_first():
        state.best_model_checkpoint = here
        state.save_to_json(str(checkpoint / "trainer_state.json"))
    return str(checkpoint)


def _last_checkpoint(work: Path) -> str | None:
    """The last whole checkpoint; the first process removes one that was being written when its run was killed.

    Every process looks by itself, as another may still be to remove what is broken. The trainer's state is the last
    file of a checkpoint.
    """
    whole: dict[int, Path] = {}
    for folder in work.glob("checkpoint-*"):
        try:
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
            whole[int(folder.name.rpartition("-")[2])] = folder
        except (OSError, ValueError):
            if is_first():
                shutil.rmtree(folder)
    return _at_home(whole[max(whole)]) if whole else None


def train(
    learner: Learner,
    train_data: Examples,
    validation_data: Examples,
    settings: TrainingSettings,
    work: Path,
    title: str,
    judge: Judge | None = None,
) -> dict[str, Any]:
    """Train the learner's parameters; they end at the best epoch's values.

    Args:
        learner: What to train.
        train_data: Training examples.
        validation_data: Examples that choose the epoch and the end.
        settings: Learning rate, epochs and the like.
        work: Folder for checkpoints; training goes on from the last one there. Whoever calls removes it once what was
            trained is written.
        title: Shown at the bar; names what is trained.
        judge: The validation figure that chooses the epoch, higher is better; minus the loss if None.

    Returns:
        A summary for the card: settings, steps, epochs, tokens and the validation figures of each epoch.

    Raises:
        CaloraError: The folder holds another training's checkpoints, or another one is at work in it.
    """
    work = work.resolve()  # checkpoints name each other by their paths
    with alone_in(work) if is_first() else nullcontext():
        _claim(work, learner, (train_data, validation_data), settings, title)
        checkpoint = _last_checkpoint(work)
        arguments = TrainingArguments(
            output_dir=str(work),
            learning_rate=settings.learning_rate,
            num_train_epochs=_epochs_left(checkpoint, settings),
            per_device_train_batch_size=settings.batch_size,
            per_device_eval_batch_size=2 * settings.batch_size,
            warmup_steps=settings.warmup,
            weight_decay=settings.weight_decay,
            lr_scheduler_type="linear",
            max_grad_norm=1.0,
            seed=settings.seed,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=2,
            load_best_model_at_end=True,
            metric_for_best_model="score",
            greater_is_better=True,
            logging_steps=5,
            prediction_loss_only=True,
            remove_unused_columns=False,
            disable_tqdm=True,
            report_to="none",
            label_names=["labels"],
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=False,
        )
        arguments._n_gpu = min(arguments.n_gpu, 1)  # or Trainer copies the learner to each, and the backbone to none
        follow = _Follow(learner, title, settings.patience)
        trainer = _Trainer(
            model=learner,
            args=arguments,
            train_dataset=train_data,
            eval_dataset=validation_data,
            data_collator=partial(collate, int(learner.backbone.tokenizer.pad_token_id)),
            callbacks=[follow],
        )
        trainer.judge = judge
        trainer.settings = settings
        trainer.remove_callback(PrinterCallback)
        with shown(follow.bar.get_renderable):
            trainer.train(resume_from_checkpoint=checkpoint)
        return {
            "settings": settings.model_dump(),
            "examples": len(train_data),
            "steps": trainer.state.global_step,
            "best_step": trainer.state.best_global_step,
            "validation": _by_epoch(trainer.state.log_history),
            **({"processes": count_of()} if count_of() > 1 else {}),
        }


def _by_epoch(log: list[dict[str, float]]) -> list[dict[str, float]]:
    """The validation figures of each epoch in one entry."""
    epochs: dict[float, dict[str, float]] = {}
    for entry in log:
        figures = {key: value for key, value in entry.items() if key in ("eval_loss", "eval_judge", "eval_score")}
        if figures:
            epochs.setdefault(entry["epoch"], {"epoch": entry["epoch"]}).update(figures)
    return list(epochs.values())
