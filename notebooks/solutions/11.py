# 1. 2.10 of 9.08 billion, 23 %. The least balance is (2 d' D + 2 V d' + 2 V r d') / (V D b):
#    nearly all of it has a V above and below, so it hardly changes at equal d' and r.


# 2. What embedding and head may keep of all parameters is s - (1 - t).
def needed(s, t):
    return s / (s - (1 - t)) if s - (1 - t) > 1e-6 * s else None


check_2(needed)


# 3. What the rows cost over what each state saves, rounded up.
def fewest_states(V, D, inner, r):
    saved = V * D - inner * D - V * inner  # half of what each state saves
    return V * r * inner // saved + 1 if saved > 0 else None


check_3(fewest_states)

# 4. Not measured here: it is your machine.
