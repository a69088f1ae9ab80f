"""`dist-train`: starts a training script on any number of MPI ranks, and says what is wrong when that does not work.

Standard library only, and it never imports `dist_train`: it must work, and explain itself, where the package cannot.
"""
