"""Training of torch views: data, losses, optimizers and the loop; needs ``prunec[train]``.

The loop stands on Hugging Face Accelerate (Apache-2.0, a release every month or two): it reads all
that `torchrun` says from the environment, so that one command serves one process, several GPUs and
several nodes. Lightning Fabric does the same, but wants the numbers of nodes and devices said twice
and brings aiohttp along. What Accelerate would pickle (optimizer, random states) is stored here.
"""
