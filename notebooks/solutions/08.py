# 1. 1,500: it guesses among all words. The three matches and the KL are 0 for the teacher, the
#    cross entropy is not.


# 2. T^2 from the front, 1/T from the chain rule; without T^2 the gradient tends to 0 as 1/T^2.
def distillation_gradient(s, t, T):
    return T * (softmax(s / T) - softmax(t / T)) / len(s)


check_2(distillation_gradient)


# 3. All windows at once.
def slow_perplexity(model, ids, max_windows):
    chunk = torch.from_numpy(windows(ids, CONTEXT, max_windows))  # (max_windows, 33)
    with torch.no_grad():
        logs = model(chunk[:, :-1]).log_softmax(-1)  # (max_windows, 32, V)
    return float((-logs.gather(2, chunk[:, 1:, None]).mean()).exp())


check_3(slow_perplexity)

# 4. `stage2` takes the mix; train one student per mix on a half of the batches and on all, and
#    measure on held-out text. Less text should favour the teacher, who has seen more.
