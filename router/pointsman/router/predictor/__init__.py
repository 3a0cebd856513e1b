"""The predictor: does this question need thinking?

Reads the last user message, with a short one what the user said before it; answers with a calibrated probability in
some microseconds, and says why. Serving needs `Predictor` and `question_of` only, and NumPy; training and measuring
stand beside them and may use SciPy. Knows no request, no policy and no store.
"""

from pointsman.router.predictor.artefact import WeightsError
from pointsman.router.predictor.model import Evidence, Predictor
from pointsman.router.predictor.question import question_of

__all__ = ["Evidence", "Predictor", "WeightsError", "question_of"]
