"""torchvision's classifiers: what it would take an import of torch to find out.

From the figures that torchvision publishes with their weights; a test compares the table with the installed
version.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One classifier's figures."""

    head: str
    """The layer that gives the logits, as a path of attributes."""
    gflops: float
    """Multiply-adds of one forward pass at `size` pixels, in units of 1e9."""
    size: int
    megabytes: float
    """Parameters in fp32."""
    smallest: int
    """Side in pixels below which its layers have nothing left; networks that take one size have that."""


# name, head, gflops, size, megabytes, smallest
_TABLE = """
alexnet             classifier.6     0.714  224   244.4   63
convnext_base       classifier.2    15.355  224   354.4   32
convnext_large      classifier.2    34.361  224   791.1   32
convnext_small      classifier.2     8.684  224   200.9   32
convnext_tiny       classifier.2     4.456  224   114.4   32
densenet121         classifier       2.834  224    31.9   29
densenet161         classifier       7.728  224   114.7   29
densenet169         classifier        3.36  224    56.6   29
densenet201         classifier       4.291  224    80.1   29
efficientnet_b0     classifier.1     0.386  224    21.2    1
efficientnet_b1     classifier.1     0.687  240    31.2    1
efficientnet_b2     classifier.1     1.088  288    36.4    1
efficientnet_b3     classifier.1     1.827  300    48.9    1
efficientnet_b4     classifier.1     4.394  380    77.4    1
efficientnet_b5     classifier.1    10.266  456   121.6    1
efficientnet_b6     classifier.1    19.068  528   172.2    1
efficientnet_b7     classifier.1    37.746  600   265.4    1
efficientnet_v2_l   classifier.1     56.08  480   474.1   33
efficientnet_v2_m   classifier.1    24.582  480   216.6   33
efficientnet_v2_s   classifier.1     8.366  384    85.8   33
googlenet           fc               1.498  224    26.5   15
inception_v3        fc               5.713  299    95.3   75
maxvit_t            classifier.5     5.558  224   123.7  224
mnasnet0_5          classifier.1     0.104  224     8.9    1
mnasnet0_75         classifier.1     0.215  224    12.7    1
mnasnet1_0          classifier.1     0.314  224    17.5    1
mnasnet1_3          classifier.1     0.526  224    25.1    1
mobilenet_v2        classifier.1     0.301  224    14.0    1
mobilenet_v3_large  classifier.3     0.217  224    21.9    1
mobilenet_v3_small  classifier.3     0.057  224    10.2    1
regnet_x_16gf       fc              15.941  224   217.1    1
regnet_x_1_6gf      fc               1.603  224    36.8    1
regnet_x_32gf       fc              31.736  224   431.2    1
regnet_x_3_2gf      fc               3.177  224    61.2    1
regnet_x_400mf      fc               0.414  224    22.0    1
regnet_x_800mf      fc                 0.8  224    29.0    1
regnet_x_8gf        fc               7.995  224   158.3    1
regnet_y_128gf      fc             127.518  224  2579.3    1
regnet_y_16gf       fc              15.912  224   334.4    1
regnet_y_1_6gf      fc               1.612  224    44.8    1
regnet_y_32gf       fc               32.28  224   580.2    1
regnet_y_3_2gf      fc               3.176  224    77.7    1
regnet_y_400mf      fc               0.402  224    17.4    1
regnet_y_800mf      fc               0.834  224    25.7    1
regnet_y_8gf        fc               8.473  224   157.5    1
resnet101           fc               7.801  224   178.2    1
resnet152           fc              11.514  224   240.8    1
resnet18            fc               1.814  224    46.8    1
resnet34            fc               3.664  224    87.2    1
resnet50            fc               4.089  224   102.2    1
resnext101_32x8d    fc              16.414  224   355.2    1
resnext101_64x4d    fc               15.46  224   333.8    1
resnext50_32x4d     fc                4.23  224   100.1    1
shufflenet_v2_x0_5  fc                0.04  224     5.5    1
shufflenet_v2_x1_0  fc               0.145  224     9.1    1
shufflenet_v2_x1_5  fc               0.296  224    14.0    1
shufflenet_v2_x2_0  fc               0.583  224    29.6    1
squeezenet1_0       classifier.1     0.819  224     5.0   21
squeezenet1_1       classifier.1     0.349  224     4.9   17
swin_b              head            15.431  224   351.1  224
swin_s              head             8.741  224   198.4  224
swin_t              head             4.491  224   113.2  224
swin_v2_b           head            20.325  256   351.7  256
swin_v2_s           head            11.546  256   198.9  256
swin_v2_t           head              5.94  256   113.4  256
vgg11               classifier.6     7.609  224   531.5   32
vgg11_bn            classifier.6     7.609  224   531.5   32
vgg13               classifier.6    11.308  224   532.2   32
vgg13_bn            classifier.6    11.308  224   532.2   32
vgg16               classifier.6     15.47  224   553.4   32
vgg16_bn            classifier.6     15.47  224   553.5   32
vgg19               classifier.6    19.632  224   574.7   32
vgg19_bn            classifier.6    19.632  224   574.7   32
vit_b_16            heads.head      17.564  224   346.3  224
vit_b_32            heads.head       4.409  224   352.9  224
vit_h_14            heads.head     167.295  224  2528.2  224
vit_l_16            heads.head      61.555  224  1217.3  224
vit_l_32            heads.head      15.378  224  1226.1  224
wide_resnet101_2    fc              22.753  224   507.5    1
wide_resnet50_2     fc              11.398  224   275.5    1
"""


def _figures(head: str, gflops: str, size: str, megabytes: str, smallest: str) -> Figures:
    return Figures(
        head=head, gflops=float(gflops), size=int(size), megabytes=float(megabytes), smallest=int(smallest)
    )


TORCHVISION = {name: _figures(*rest) for name, *rest in map(str.split, _TABLE.strip().splitlines())}
