"""Do no harm: the classifier that came with the weights, untouched, on a candidate's class token.

Shape legend: B images, K classes, H W pixels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from srt_distill.tasks.answer_pictures import framed
from srt_distill.tasks.candidate import Candidate
from srt_distill.tasks.classification.labelled_images import LabelledImages, open_labelled
from srt_distill.tasks.classification.preprocessing import resize_and_crop
from srt_distill.tasks.example_instances import write_instances
from srt_distill.tasks.task import Item, Outcome, Score, Sheet, Task, TaskInfo


@dataclass(frozen=True)
class UntouchedHead(Task):
    """The classifier that came with the weights: agreement with the reference's answers, and top-1.

    Args:
        root: Images, labelled or not: a folder, a folder of classes (with a `classes.txt` where the classifier knows
            more classes than there are folders, a name per line in its order), or a Hugging Face data set.
        split: Folder below `root`, if there is one, or split of the data set.
        num_images: First rows of a data set that are taken; null for all.
        resize: Shorter side in pixels before cropping, of the model's own preprocessing (DeiT: 248); null for none.
        crop: Side of the central square in pixels; null for all of the image.
    """

    root: Path
    split: str = "val"
    num_images: int | None = None
    resize: int | None = 248
    crop: int | None = 224

    @property
    def info(self) -> TaskInfo:
        """What a result says of the task."""
        return TaskInfo(
            name="untouched-head",
            version="1",
            title="The untouched classifier",
            item="image",
            scores=(Score("agreement"), Score("top-1")),
            source="agreement is ours: the share of images that get the reference's class; needs no labels",
        )

    def settings(self) -> dict[str, Any]:
        """All that outcomes depend on besides the candidate and the image's file."""
        table = {} if self._images.files[0] else {"table": self._images.digest}
        options = {name: getattr(self, name) for name in ("resize", "crop")}
        return options | table | {"classes": list(self._images.classes)}

    @cached_property
    def _images(self) -> LabelledImages:
        return open_labelled(self.root, self.split, self.num_images)

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self._images.names)}

    def items(self) -> Sequence[Item]:
        """Find the images, and check that all can be decoded."""
        self._images.require_readable(self._index.values())
        return [Item(name, self._images.files[index]) for name, index in self._index.items()]

    def prepare(self, candidate: Candidate) -> dict[str, Tensor]:
        """Check that the candidate has a classifier, of the data's classes.

        Raises:
            ValueError: If not.
        """
        num_classes = self._classify(candidate, self._image(0)).shape[1]
        labels = {label for label in self._images.labels if label is not None}
        named = len(self._images.classes)
        if (named and named != num_classes) or (labels and max(labels) >= num_classes):
            raise ValueError(
                f"the classifier of {candidate.name} knows {num_classes} classes, {self.root} has "
                f"{named or max(labels) + 1}; write its classes in order into {self.root}/classes.txt, a folder's name "
                "per line, or put all images into one folder, for agreement alone"
            )
        return {"num_classes": torch.tensor(num_classes)}

    def judge(self, candidate: Candidate, prepared: Mapping[str, Tensor], item: Item, folder: Path) -> Outcome:
        """Classify an image."""
        index = self._index[item.name]
        probabilities = self._classify(candidate, self._image(index)).double().softmax(1)[0]
        predicted, label = int(probabilities.argmax()), self._images.labels[index]
        correct = math.nan if label is None else float(predicted == label)
        return Outcome({"predicted": predicted, "probability": float(probabilities[predicted]), "top-1": correct})

    def pool(self, outcomes: Sequence[Outcome]) -> dict[str, float]:
        """Take the share of labelled images whose class is right."""
        known = [o.numbers["top-1"] for o in outcomes if not math.isnan(o.numbers["top-1"])]
        return {"top-1": math.fsum(known) / len(known) if known else math.nan}

    def relate(self, outcomes: Sequence[Outcome], reference: Sequence[Outcome]) -> dict[str, float]:
        """Take the share of images that get the class that the reference gives them; of the reference itself 1."""
        same = [a.numbers["predicted"] == b.numbers["predicted"] for a, b in zip(outcomes, reference, strict=True)]
        return {"agreement": sum(same) / len(same) if same else math.nan}

    def _image(self, index: int) -> UInt8[Tensor, "1 3 H W"]:
        return resize_and_crop(self._images.read(index), self.resize, self.crop)

    def _classify(self, candidate: Candidate, images: UInt8[Tensor, "B 3 H W"]) -> Float[Tensor, "B K"]:
        if candidate.classify is None:
            raise ValueError(
                f"{candidate.name} has no classifier that reads its class token; leave this task out, or take a model "
                "whose weights have one (num_classes above 0, pooling by token)"
            )
        (prefix,) = candidate.maps_at(images, ("-1:prefix",))
        with torch.inference_mode():
            return candidate.classify(prefix.flatten(1)).float().cpu()

    def view(self, candidate: Candidate, item: Item) -> UInt8[Tensor, "1 3 H W"]:
        """Show the image as it is classified."""
        return self._image(self._index[item.name])

    def draw(self, item: Item, outcomes: Mapping[str, Outcome], folders: Mapping[str, Path]) -> Sheet:
        """Show the image, framed in green where a candidate is right or, without labels, says what the first says."""
        index = self._index[item.name]
        picture = np.ascontiguousarray(self._image(index)[0].permute(1, 2, 0).numpy())
        label = self._images.labels[index]
        wanted = label if label is not None else next(iter(outcomes.values())).numbers["predicted"]
        pictures = {"image": picture}
        said = []
        for name, outcome in outcomes.items():
            predicted = outcome.numbers["predicted"]
            pictures[name] = framed(picture, predicted == wanted)
            said.append(f"{name}: {self._images.class_name(predicted)}")
        return Sheet(((f"{self._images.class_name(label)}; {', '.join(said)}", pictures),))

    @classmethod
    def example(cls, folder: Path) -> "UntouchedHead":
        """Write six images without labels, whatever the number of the classifier's classes."""
        write_instances(folder, ("classes", "classes"))
        for path in sorted(folder.joinpath("classes").rglob("*.png")):
            path.rename(folder / path.name)
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
        folder.joinpath("classes").rmdir()
        return cls(folder, resize=None, crop=64)
