# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
"""scikit-learn with n_jobs=2 on data in shared memory: its processes are sent a reference."""

import pickle

import numpy as np
import shmdev
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV


def main():
    rng = np.random.default_rng(1)
    x = shmdev.array(rng.standard_normal((2000, 20)))
    y = shmdev.array(np.asarray(x) @ np.arange(20))
    assert len(pickle.dumps((x, y))) < 2048 < x.nbytes
    search = GridSearchCV(Ridge(), {"alpha": [1e-6, 1.0, 1e6]}, n_jobs=2, cv=3)
    search.fit(x, y)
    assert search.best_params_ == {"alpha": 1e-6}
    assert np.allclose(search.best_estimator_.coef_, np.arange(20), atol=1e-6)
    print(search.best_params_)


if __name__ == "__main__":
    main()
