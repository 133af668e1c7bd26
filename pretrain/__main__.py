"""`python -m rootstock.pretrain --gin_file=RECIPE --gin.MODEL_DIR="'DIR'"`."""

import sys

from rootstock.engine import launch

if __name__ == "__main__":
    sys.exit(launch.main("rootstock.pretrain", "Pretrain a model by a recipe: begins, or goes on where MODEL_DIR stands."))
