-- Score interval (Wilson 1927), as in transforms/intervals.py.
case
    when n > 0 then
        if(
            successes = 0,
            0.0,
            (
                successes + 1.959963984540054 ** 2 / 2
                - 1.959963984540054 * sqrt(successes * (n - successes) / n + 1.959963984540054 ** 2 / 4)
            ) / (n + 1.959963984540054 ** 2)
        )
end
