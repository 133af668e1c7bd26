"""`python -m rootstock.finetune --gin_file=RECIPE --gin.MODEL_DIR="'DIR'" --gin.ENCODER="'PRETRAINED'"`."""

import sys

from rootstock.engine import launch

if __name__ == "__main__":
    sys.exit(launch.main("rootstock.finetune", "Fine-tune an encoder or T5 by a recipe: begins, or goes on where MODEL_DIR stands."))
