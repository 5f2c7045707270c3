"""Train `pupil`: `python -m chiasm.models.training.train --out FOLDER`, or `make train-pupil`.

First the tower learns to see, from crowded pictures of which every cell is known. Then the language model learns to
answer from what the finished tower tells it. Then both halves learn together, the language model practises alone with
smaller steps, the tower looks again with ever smaller ones, and at last both settle. Two processes share the work;
equal seeds and equal numbers of steps give an equal model.
"""

import argparse
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor, nn

from chiasm.models.training.examination import Marks, examination
from chiasm.models.training.eyes import Eyes
from chiasm.models.training.network import Pupil
from chiasm.models.training.optimizer import Optimizer
from chiasm.models.training.rows import Conversation, Rows, Scribe
from chiasm.models.training.scenes import SceneMaker
from chiasm.models.training.shape import MERGE, Shape
from chiasm.models.training.sight import PictureBook, Pictures, pictures
from chiasm.models.training.talk import split_talk
from chiasm.models.training.teacher import Teacher
from chiasm.models.training.vocabulary import Words, train_tokenizer

SEED = 1
TOKENIZER = "tokenizer.json"  # beside the checkpoints
PROCESSES = 2
WARM_UP = 60  # steps
STAGES = {  # steps
    "seeing": 1200,
    "answering": 700,
    "joining": 1100,
    "practising": 500,
    "looking again": 700,
    "settling": 1400,
}
TOWER_ALONE = ("seeing", "looking again")
CROWD_OF_PICTURES, PICTURES = 20, 8  # in a step of one process: of the tower alone, and where questions are asked
# Factor on all learning rates when a stage begins, when it ends, and for which share of its steps the first is kept.
RATES = {
    "seeing": (1.0, 0.0, 0.6),
    "answering": (1.0, 1.0, 1.0),
    "joining": (1.0, 0.43, 0.0),
    "practising": (1.0, 0.3, 0.3),
    "looking again": (0.2, 0.0, 0.1),
    "settling": (0.6, 0.0, 0.2),
}
CROWDS = 0.6  # share of the steps of the tower alone
FLOCKS = {"practising": 0.5, "settling": 0.35}  # share of the steps
TEXTS = 6  # in a crowded picture, at most
QUESTIONS = 12  # about a picture, or a pair of them
PAIRS_EVERY = 6  # steps: then the lesson is about pairs of pictures
TALKING_ROWS, TALKING_QUESTIONS = 1, 10
SIGHT_SHARE = 0.25  # weight of the seeing losses while answering is learned
MEANING_SHARE = 0.7  # weight of what words for a thing have found of it
REPORT_EVERY, SAVE_EVERY, EXAMINE_EVERY = 20, 100, 250  # steps
EXAMINED = 25  # exercises of each kind, on the way


class School(nn.Module):
    """Everything that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.pupil = Pupil(Shape())
        self.eyes = Eyes(Shape().width)


def see(school: School, book: Pictures) -> tuple[Tensor, list[Tensor]]:
    """Embeddings [B, N, width] of some pictures, and their patches [B, 4 N, vision width] after each block."""
    found: tuple[Tensor, list[Tensor]] = school.pupil.visual(book.patches, MERGE * book.rows, MERGE * book.columns)
    return found


def answer_logits(
    school: School, rows: Rows, embeddings: Tensor | None, image_token: int
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Logits [answer tokens, vocabulary] where an answer's token is to be predicted, and which places [2, .] those are.

    Also what all tokens were after each layer.
    `embeddings` [all image tokens of all rows in order, width].
    """
    language = school.pupil.language_model
    x = language.embed_tokens(rows.ids)
    if embeddings is not None:
        x = x.masked_scatter((rows.ids == image_token)[..., None], embeddings)
    hidden, layers = language(x, rows.positions, rows.mask)
    places = rows.weights.nonzero(as_tuple=True)
    return language.lm_head(hidden[places]), torch.stack(places), layers


def rate_at(stage: str, step: int, steps: int) -> float:
    """Factor on all learning rates: a short rise, and a straight way from the stage's first rate to its last."""
    first, last, kept = RATES[stage]
    way = max(0.0, step / steps - kept) / (1 - kept) if kept < 1 else 0.0
    return min((step + 1) / WARM_UP, first + (last - first) * way)


class Log:
    """Means of what is reported, and progress with the time that is left."""

    def __init__(self, stage: str, steps: int, quiet: bool) -> None:
        self._stage, self._steps, self._quiet = stage, steps, quiet
        self._sums: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)
        self._begun = time.monotonic()
        self._first: int | None = None

    def add(self, values: dict[str, float]) -> None:
        """Values of one step."""
        for name, value in values.items():
            self._sums[name] += value
            self._counts[name] += 1

    def report(self, step: int) -> None:
        """One line, every so often."""
        if self._first is None:
            self._first = step
        if self._quiet or (step + 1) % REPORT_EVERY:
            return
        took = time.monotonic() - self._begun
        left = took / (step + 1 - self._first) * (self._steps - step - 1)
        told = " ".join(f"{name} {self._sums[name] / self._counts[name]:.3f}" for name in self._sums)
        print(f"{self._stage} {step + 1}/{self._steps} {took:.0f} s, {left / 60:.0f} min left: {told}", flush=True)
        self._sums.clear()
        self._counts.clear()


def learn_to_see(school: School, stage: str, steps: int, out: Path) -> None:
    """A stage of the tower alone."""
    rank = dist.get_rank()
    book = PictureBook(SceneMaker(f"{stage} {SEED} {rank}"), CROWDS, TEXTS)
    school.pupil.language_model.requires_grad_(False)
    optimizer = Optimizer(
        school,
        adam={"merger": 6e-4, "eyes": 2e-3, "other": 2e-3},
        muon={"pupil.visual": 0.03},
    )
    log = Log(stage, steps, quiet=rank > 0)
    for step in range(steps):
        page = book.next(CROWD_OF_PICTURES)
        losses = school.eyes.losses(*see(school, page), page.sight)
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        optimizer.step(rate_at(stage, step, steps))
        log.add({name: float(loss.detach()) for name, loss in losses.items()})
        log.report(step)
        if (step + 1) % SAVE_EVERY == 0 and rank == 0:
            save(school, out / f"{stage}.pt")
    school.pupil.language_model.requires_grad_(True)


def learn_to_answer(school: School, stage: str, steps: int, out: Path) -> None:
    """A stage of the language model alone, or of both halves."""
    tower_learns = stage in ("joining", "settling")
    school.pupil.visual.requires_grad_(tower_learns)
    rank = dist.get_rank()
    tokenizer = Tokenizer.from_file(str(out / TOKENIZER))
    image_token = Words(tokenizer).image
    scribe = Scribe(tokenizer)
    book = PictureBook(SceneMaker(f"{stage} {SEED} {rank}"), flocks=FLOCKS.get(stage, 0.0))
    teacher = Teacher(random.Random(f"{stage} {SEED} {rank}"), split_talk()[0])
    rates = {"merger": 4e-4, "eyes": 1e-3, "embed_tokens": 2e-3, "lm_head": 2e-3}
    if stage in ("practising", "settling"):  # Muon's steps undo what takes several layers to tell
        rates |= {"merger": 2e-4, "visual": 2e-4, "language_model": 1e-3}
    optimizer = Optimizer(
        school,
        adam={**rates, "other": 2e-3},
        muon={"pupil.visual": 0.005, "pupil.language_model": 0.03},
    )
    log = Log(stage, steps, quiet=rank > 0)
    for step in range(steps):
        pages = [book.next(PICTURES)] if step % PAIRS_EVERY else [book.next(PICTURES // 2) for _ in range(2)]
        if len(pages) == 1:
            conversations = teacher.about(pages[0], QUESTIONS)
        else:
            conversations = teacher.comparing(pages[0], pages[1], QUESTIONS)
        rows = scribe.rows(conversations + teacher.talking(TALKING_ROWS, TALKING_QUESTIONS))
        seen = [see(school, page) for page in pages]
        logits, places, layers = answer_logits(
            school, rows, torch.cat([e for e, _ in seen], dim=1).flatten(0, 1), image_token
        )
        targets = rows.targets[places[0], places[1]]
        weights = rows.weights[places[0], places[1]]
        answering = (F.cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()
        losses = {"answering": answering, "meaning": MEANING_SHARE * school.eyes.understanding(layers, rows)}
        if tower_learns:
            sights = [school.eyes.losses(*told, page.sight) for told, page in zip(seen, pages, strict=True)]
            losses["seeing"] = (
                SIGHT_SHARE * torch.stack([x for sight in sights for x in sight.values()]).sum() / len(pages)
            )
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step(rate_at(stage, step, steps))
        log.add({name: float(loss.detach()) for name, loss in losses.items()})
        log.add({"tokens right": float((logits.argmax(-1) == targets).float().mean())})
        log.report(step)
        if rank == 0 and (step + 1) % SAVE_EVERY == 0:
            save(school, out / f"{stage}.pt")
        if rank == 0 and ((step + 1) % EXAMINE_EVERY == 0 or step + 1 == steps > EXAMINE_EVERY):
            print(examine(school, scribe, image_token), flush=True)


def examine(school: School, scribe: Scribe, image_token: int) -> Marks:
    """A quick examination with the trainer's own forward.

    An answer counts as right if each of its tokens is the likeliest after those before it, as greedy decoding has it.
    """
    marks = Marks()
    with torch.no_grad():
        for exercise in examination("on the way", EXAMINED):
            pages = [pictures([scene]) for scene in exercise.scenes]
            grids = tuple((page.rows, page.columns) for page in pages)
            rows = scribe.rows([Conversation(grids, [exercise.question])])
            seen = torch.cat([see(school, page)[0][0] for page in pages]) if pages else None
            logits, places, _ = answer_logits(school, rows, seen, image_token)
            right = bool((logits.argmax(-1) == rows.targets[places[0], places[1]]).all())
            marks.add(exercise.kind, right)
    return marks


def save(school: School, path: Path) -> None:
    """Everything that has been learned so far; complete or not there at all."""
    unfinished = path.with_suffix(".part")
    torch.save(school.state_dict(), unfinished)
    unfinished.rename(path)


def run(out: Path, stages: dict[str, int], start: Path | None) -> None:
    """One of the processes: these stages, each for so many steps."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    dist.init_process_group("gloo")
    school = School()
    if start is not None:
        school.load_state_dict(torch.load(start, weights_only=True))
    for stage, steps in stages.items():
        begun = time.monotonic()
        learn = learn_to_see if stage in TOWER_ALONE else learn_to_answer
        learn(school, stage, steps, out)
        if dist.get_rank() == 0:
            save(school, out / f"{stage}.pt")
            print(f"{stage}: {steps} steps in {(time.monotonic() - begun) / 60:.0f} min", flush=True)
    dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Start the processes and wait for them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and tokenizer")
    parser.add_argument("--stage", choices=STAGES, help="this stage only")
    parser.add_argument("--steps", type=int, help="steps of each stage that runs, instead of its own number")
    parser.add_argument("--start", type=Path, help="checkpoint to start from, of the stage before")
    options = parser.parse_args()
    if options.stage is None and options.start is not None:
        parser.error("--start is for one stage: name it with --stage")
    if options.stage not in (None, next(iter(STAGES))) and options.start is None:
        parser.error(f"{options.stage} goes on from a checkpoint: name it with --start")
    if "RANK" in os.environ:
        chosen = STAGES if options.stage is None else {options.stage: STAGES[options.stage]}
        run(options.out, {stage: options.steps or steps for stage, steps in chosen.items()}, options.start)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = options.out / TOKENIZER
    if options.start is None:
        train_tokenizer().save(str(tokenizer))
    elif options.start.parent != options.out:  # a stage that goes on keeps the words of the one before
        shutil.copy(options.start.parent / TOKENIZER, tokenizer)
    # Large tensors come and go in every step: memory handed back to the system each time costs a third of the speed.
    environment = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "WORLD_SIZE": str(PROCESSES),
        "OMP_NUM_THREADS": "1",
        "MALLOC_MMAP_THRESHOLD_": str(8 << 30),
        "MALLOC_TRIM_THRESHOLD_": str(16 << 30),
        "MALLOC_TOP_PAD_": str(256 << 20),
    }
    command = [sys.executable, "-m", "chiasm.models.training.train", *sys.argv[1:]]
    processes = [subprocess.Popen(command, env=environment | {"RANK": str(rank)}) for rank in range(PROCESSES)]
    codes = [process.wait() for process in processes]  # negative for one that was killed
    sys.exit(int(any(codes)))


if __name__ == "__main__":
    main()
