"""`python -m onebox` is `onebox`; torchrun needs it this way."""

from onebox.cli import main

if __name__ == "__main__":
    main()
