"""Keras as programs import it."""

import subprocess
import sys

from captioning.runtime.keras_import import import_keras_alone

ALONE = """
import sys
from captioning.runtime.keras_import import import_keras_alone
import_keras_alone()
import keras
assert keras.ops.convert_to_numpy(keras.ops.ones(2)).sum() == 2
print(*[name for name in ("pandas", "matplotlib.pyplot") if name in sys.modules])
import pandas, matplotlib.pyplot
print(pandas.DataFrame({"a": [1]}).a.sum(), matplotlib.pyplot.Figure is not None)
"""


def test_keras_alone_brings_no_tables_or_plots_and_leaves_them_to_be_imported_later():
    told = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, check=True)
    assert told.stdout == "\n1 True\n"
    assert told.stderr == ""


def test_keras_alone_leaves_what_is_imported_already_as_it_is():
    import pandas

    import_keras_alone()
    assert sys.modules["pandas"] is pandas
