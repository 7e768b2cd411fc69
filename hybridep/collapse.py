"""Whether a network has collapsed: what it predicts says nothing about what it sees."""

import math

import numpy as np
from numpy.typing import NDArray

STANDARD_ERRORS = 2.0


def collapsed(predicted: NDArray[np.int64], labels: NDArray[np.int64]) -> bool:
    """Told from the predictions for some images and their labels, integers [N] each.

    Collapsed is a network that names one class for all images, or whose balanced accuracy, the mean over the K classes of the share of
    a class's images that it names rightly, is within two standard errors of 1/K. That is what predictions reach that do not depend on
    the image, however many images each class has; with as many of each, it is the accuracy itself.

    So few images that even perfect predictions would be within the two standard errors cannot tell; then only the first counts. Images
    of one class alone tell nothing.
    """
    classes, place, images = np.unique(labels, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        return False
    if len(np.unique(predicted)) == 1:
        return True
    right = np.bincount(place[predicted == labels], minlength=len(classes))
    guessed = 1 / len(classes)
    error = math.sqrt(guessed * (1 - guessed) * float(np.sum(1 / images))) / len(classes)
    bound = guessed + STANDARD_ERRORS * error
    return bound < 1 and float(np.mean(right / images)) <= bound
