import subprocess
import sys


def test_a_text_goes_through_all_passes() -> None:
    """What is suppressed when workers begin must not be the usual case."""
    command = "from tutelage.corpus import rehearsal; rehearsal.rehearse()"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
