"""Deep Embedded Clustering (Xie, Girshick & Farhadi, ICML 2016) as a scikit-learn estimator.

    from dec import DEC
    labels = DEC(n_clusters=10, random_state=0).fit_predict(X)
"""

try:
    import torch  # loads libtorch, which dec._dec is linked to by name
except ImportError as error:
    raise ImportError("dec needs PyTorch 2.11: pip install 'torch==2.11.*'") from error

if torch.__version__.split("+")[0].split(".")[:2] != ["2", "11"]:
    raise ImportError(
        f"dec was built for PyTorch 2.11, and PyTorch {torch.__version__} is installed here: pip install 'torch==2.11.*'"
    )

from . import tl
from ._dec import TrainingError, __version__, recipes
from ._estimator import DEC

__all__ = ["DEC", "TrainingError", "__version__", "recipes", "tl"]
