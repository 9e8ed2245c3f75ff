"""The command line. Each command is a thin layer over one public function and lives in its own module; nothing heavy is
imported until a command runs. `main` turns every OneboxError into one line and exit code 1."""

from __future__ import annotations

import sys


def main() -> None:
    """The `onebox` command."""
    from onebox.cli.app import app
    from onebox.errors import OneboxError

    try:
        app()
    except OneboxError as error:
        sys.stderr.write(f"onebox: {error}\n")
        raise SystemExit(1) from None
    except BrokenPipeError:
        # the reader of our output went away (`onebox predict ... | head`): not an error, and nobody left to tell
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except KeyboardInterrupt:
        sys.stderr.write("onebox: stopped\n")
        raise SystemExit(130) from None
