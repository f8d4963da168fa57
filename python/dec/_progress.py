"""Progress on stderr."""

import contextlib
import sys


@contextlib.contextmanager
def progress_for(verbose):
    """What the extension calls with stage, steps done and steps in all; None where nothing is shown."""
    if not verbose:
        yield None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        shown = _Lines()
    else:
        shown = _Bars(tqdm)
    try:
        yield shown
    finally:
        shown.close()


class _Bars:
    """A tqdm bar a stage."""

    def __init__(self, tqdm):
        self.tqdm, self.bar, self.stage = tqdm, None, None

    def __call__(self, stage, done, total):
        if stage != self.stage or done < self.bar.n:
            self.close()
            self.stage, self.bar = stage, self.tqdm(total=total, desc=stage, leave=True)
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def close(self):
        if self.bar is not None:
            self.bar.close()
            self.bar = self.stage = None


class _Lines:
    """One line that is written over, and one a stage where stderr is no terminal."""

    def __call__(self, stage, done, total):
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{stage}: {done} of {total}")
            sys.stderr.flush()
        elif done == total:
            sys.stderr.write(f"{stage}: {done}\n")

    def close(self):
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
