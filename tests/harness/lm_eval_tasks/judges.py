"""What the task vevals_judged does with a reply."""


def judged(doc, results):
    """Three numbers of one reply: its length, what it shares with the answer, and both texts."""
    [reply] = results
    return {"letters": len(reply), "spread": (len(reply), len(doc["last"])), "bleu": (doc["last"], reply)}


def spread(items):
    """Longest reply less the shortest answer."""
    return float(max(reply for reply, _ in items) - min(answer for _, answer in items))
