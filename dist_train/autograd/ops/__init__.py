"""The operations, one file per family. Importing a family attaches its methods to Tensor."""
