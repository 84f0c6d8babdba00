"""CIFAR-10 with released ResNets (Table 6 of the SRT paper): the networks, and the candidates made of them.

The task itself is `UntouchedHead` on the data set, with neither resizing nor cropping.
"""

from srt_distill.tasks.cifar.candidates import cifar_candidates, srt_before_head
from srt_distill.tasks.cifar.resnet import CifarResNet, load_resnet

__all__ = ["CifarResNet", "cifar_candidates", "load_resnet", "srt_before_head"]
