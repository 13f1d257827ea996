using System.Diagnostics;

namespace Sluice.Dma.Tests;

/// <summary>
/// Two calls at the same moment, many times. Who was first in one round starts later in the next, by a little more or
/// less each time, and by more when it was first several times in a row: so the rounds gather where the two windows
/// overlap, however fast the machine is.
/// </summary>
internal static class Race
{
    private const int Rounds = 4000;
    private static readonly TimeSpan Enough = TimeSpan.FromSeconds(1);

    /// <summary>Runs rounds until there were many, or a second is over and each was first once.</summary>
    /// <param name="prepare">Before each round.</param>
    /// <param name="left">On this thread.</param>
    /// <param name="right">On another thread; true when it was first.</param>
    /// <param name="check">After each round, with what the right one said.</param>
    /// <returns>How often each was first.</returns>
    internal static (int Left, int Right) Run(Action prepare, Action left, Func<bool> right, Action<bool> check)
    {
        Random random = new(1);
        (int go, int ready, int done, int delay, int streak) = (0, 0, 0, 0, 0);
        (bool rightFirst, Exception? thrown) = (false, null);
        Thread other = new(() =>
        {
            for (int round = 1; Await(ref go, round); round++)
            {
                Volatile.Write(ref ready, round);
                Thread.SpinWait(Math.Max(delay, 0));
                try { rightFirst = right(); }
                catch (Exception e) { thrown ??= e; }
                Volatile.Write(ref done, round);
            }
        });
        other.Start();
        (int lefts, int rights) = (0, 0);
        Stopwatch watch = Stopwatch.StartNew();
        try
        {
            for (int round = 1; round <= Rounds; round++)
            {
                prepare();
                bool before = rightFirst;
                Volatile.Write(ref go, round);
                Await(ref ready, round);
                Thread.SpinWait(Math.Max(-delay, 0));
                left();
                Await(ref done, round);
                Assert.Null(thrown);
                check(rightFirst);
                bool both = lefts != 0 && rights != 0;
                if (watch.Elapsed > (both ? Enough : 8 * Enough)) { break; }
                (lefts, rights) = rightFirst ? (lefts, rights + 1) : (lefts + 1, rights);
                streak = rightFirst == before ? Math.Min(streak + 1, 15) : 0;
                int step = random.Next(20 << streak);
                delay = Math.Clamp(delay + (rightFirst ? step : -step), -2_000_000, 2_000_000);
            }
        }
        finally
        {
            Volatile.Write(ref go, -1);
            other.Join();
        }
        return (lefts, rights);
    }

    private static bool Await(ref int value, int round)
    {
        SpinWait spin = default;
        while (true)
        {
            int now = Volatile.Read(ref value);
            if (now == round || now < 0) { return now == round; }
            spin.SpinOnce(sleep1Threshold: -1);
        }
    }
}
