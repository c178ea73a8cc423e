"""The `segue` command. Only the standard library is imported before Ctrl-C ends the process without a traceback."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the command line."""
    # Ignored where a shell has started the command in the background; it stays so then.
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from segue_cli import app

    app.prepare()
    try:
        if interruptible:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        app.run_command()
    except SystemExit as ended:
        from chassis.runtime.leaving import leave

        leave(ended)
    finally:
        if interruptible:
            signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    main()
