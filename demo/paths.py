"""Where the tools read and write. What lies between data and shipped folder is kept in an ignored work folder."""

from pathlib import Path

DEMO = Path(__file__).parent
WORK = DEMO / ".work"
MODEL = DEMO.parent / "engine" / "modelengine_runtime" / "demo_model"
CHECKPOINT = WORK / "checkpoint.pt"
LOSSES = DEMO / "losses.csv"
EVALUATION = DEMO / "evaluation.json"
