"""The `modelengine` command. One file per verb; heavy imports happen inside the verbs."""
