"""The three networks. Plain ``nn.Module``s that know nothing of files, devices or plots."""

from helpers.models.fcn import FCN
from helpers.models.resnet import ResNet, ResNet18
from helpers.models.unet import UNet

__all__ = ["FCN", "ResNet", "ResNet18", "UNet"]
