"""Made photographs with one rectangle each, in VOC2007's layout.

Shape legend: none.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from srt_distill.files import write_file

SIZE, NUM_IMAGES = (60, 90), 3  # height and width in pixels, no multiples of a patch side
ANNOTATION = """<annotation>
 <filename>{name}.jpg</filename>
 <size><width>{width}</width><height>{height}</height><depth>3</depth></size>
 <object>
  <name>box</name><truncated>0</truncated><difficult>0</difficult>
  <bndbox><xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox>
 </object>
</annotation>
"""


def write_example(root: Path) -> None:
    """Write photographs, annotations and the list `trainval` under `VOCdevkit/VOC2007`."""
    folder, (height, width) = root / "VOCdevkit" / "VOC2007", SIZE
    generator = np.random.default_rng(0)
    (folder / "JPEGImages").mkdir(parents=True, exist_ok=True)
    names = [f"{index:06d}" for index in range(1, NUM_IMAGES + 1)]
    write_file(folder / "ImageSets" / "Main" / "trainval.txt", "\n".join(names) + "\n")
    for index, name in enumerate(names):
        coarse = Image.fromarray(generator.integers(0, 90, (8, 12, 3), dtype=np.uint8))
        image = coarse.resize((width, height))
        left, top, right, bottom = 8 + 16 * index, 8 + 8 * index, 39 + 16 * index, 31 + 8 * index  # inclusive
        ImageDraw.Draw(image).rectangle((left, top, right, bottom), fill=(230, 150 + 30 * index, 40))
        image.save(folder / "JPEGImages" / f"{name}.jpg", quality=95)
        corners = {"left": left + 1, "top": top + 1, "right": right + 1, "bottom": bottom + 1}
        text = ANNOTATION.format(name=name, width=width, height=height, **corners)
        write_file(folder / "Annotations" / f"{name}.xml", text)
