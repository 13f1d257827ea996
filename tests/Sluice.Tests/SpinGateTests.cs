namespace Sluice.Tests;

public sealed class SpinGateTests
{
    private SpinGate _gate;
    private int _inside;
    private int _together;
    private int _count;

    // Seen failing: Enter that does not wait for who is inside: several were at once, and counts were lost.
    [Fact]
    public void Enter_FromSeveralThreads_LetsOneInAtATime()
    {
        const int Turns = 200_000;
        using Barrier start = new(3);
        Thread[] threads = [.. Enumerable.Range(0, 3).Select(_ => new Thread(Work))];
        foreach (Thread thread in threads) { thread.Start(); }
        foreach (Thread thread in threads) { thread.Join(); }
        Assert.Equal((0, threads.Length * Turns), (_together, _count));

        void Work()
        {
            start.SignalAndWait();
            for (int i = 0; i < Turns; i++)
            {
                _gate.Enter();
                if (++_inside != 1) { _together++; }
                Thread.SpinWait(5);
                _count++;
                _inside--;
                _gate.Exit();
            }
        }
    }
}
