"""A batch that memory does not hold goes through in parts; a step still learns from all of it."""

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size


class Parts:
    """In how many parts a batch goes through the network: one, until the memory doesn't hold it."""

    def __init__(self, say):
        self.count, self.say = 1, say

    def run(self, work, size):
        """``work(parts)`` for a batch of ``size``, again with twice as many parts while memory runs out."""
        before = self.count
        while True:
            try:
                result = work(min(self.count, size))
                break
            except RuntimeError as error:
                if not should_reduce_batch_size(error) or self.count >= size:
                    raise
            # Not in the except clause: its traceback holds the very tensors that have to go.
            clear_device_cache(garbage_collection=True)
            self.count *= 2
        if self.count != before:
            held = f"out of memory with {-(-size // before)} pictures at once"
            now = f"from here on {-(-size // self.count)} at once"
            self.say(f"{held}: {now}; a step still learns from all {size}")
        return result
