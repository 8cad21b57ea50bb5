"""`python -m hornet_train` is `hornet-train`."""

from hornet_train.cli.train import main

if __name__ == "__main__":
    main()
