namespace Sluice.Machines.Tests;

public sealed class InterruptTests
{
    [Fact]
    public void MessagesMergeWhileTheyWait()
    {
        using Machine machine = Fixtures.Stepped();
        int runs = 0;
        using IInterruptLine line = machine.ConnectInterrupt("line", () => runs++);
        for (int i = 0; i < 5; i++) { machine.Interrupts.Deliver(line.Message); }
        Assert.Equal(0, runs);
        machine.RunUntil(static () => false, 100);
        Assert.Equal(1, runs);
        Assert.Equal(5, machine.Interrupts.Delivered);
        Assert.Equal(1, machine.Interrupts.Dispatched);
    }

    // Seen failing: clearing the latch after the handler instead of before it.
    [Fact]
    public void AMessageThatArrivesWhileItsHandlerRunsRunsItOnceMore()
    {
        using Machine machine = Fixtures.Stepped();
        int runs = 0;
        IInterruptLine? line = null;
        line = machine.ConnectInterrupt("line", () =>
        {
            if (runs++ > 0) { return; }
            machine.Interrupts.Deliver(line!.Message);
            machine.Interrupts.Deliver(line!.Message);
        });
        machine.Interrupts.Deliver(line.Message);
        machine.RunUntil(static () => false, 100);
        Assert.Equal(2, runs);
    }

    [Fact]
    public void AHandlerThatWaitsIsNotEnteredAgain()
    {
        using Machine machine = Fixtures.Stepped();
        int depth = 0;
        int deepest = 0;
        IInterruptLine? line = null;
        line = machine.ConnectInterrupt("line", () =>
        {
            deepest = Math.Max(deepest, ++depth);
            if (machine.Interrupts.Delivered < 3) { machine.Interrupts.Deliver(line!.Message); }
            for (int i = 0; i < 20; i++) { machine.Clock.Relax(); }
            depth--;
        });
        machine.Interrupts.Deliver(line.Message);
        machine.RunUntil(static () => false, 200);
        Assert.Equal(1, deepest);
        Assert.Equal(3, machine.Interrupts.Dispatched);
    }

    [Fact]
    public void VectorsThatNobodyOwnsAreCountedAsSpurious()
    {
        using Machine machine = Fixtures.Stepped();
        IInterruptLine line = machine.ConnectInterrupt("line", static () => Assert.Fail("ran"));
        MsiMessage message = line.Message;
        line.Dispose();
        machine.Interrupts.Deliver(message);
        machine.Interrupts.Deliver(new(message.Address, 0xF3));
        machine.RunUntil(static () => false, 50);
        Assert.Equal(2, machine.Interrupts.Spurious);
        Assert.Empty(machine.Kernel.Check());
    }

    [Fact]
    public void VectorsRunOutAndComeBack()
    {
        using Machine machine = Fixtures.Stepped();
        List<IInterruptLine> lines = [];
        for (int vector = 0x30; vector <= 0xEF; vector++)
        {
            lines.Add(machine.ConnectInterrupt("line", static () => { }));
            Assert.Equal(vector, lines[^1].Message.Vector);
            Assert.True(MachineMap.InterruptWindow.Contains(lines[^1].Message.Address));
        }
        Assert.Throws<InvalidOperationException>(() => machine.ConnectInterrupt("one more", static () => { }));
        lines[40].Dispose();
        Assert.Equal(0x30 + 40, machine.ConnectInterrupt("again", static () => { }).Message.Vector);
    }

    [Fact]
    public void AnInterruptCanBeLostOrLate()
    {
        using Machine machine = Fixtures.Stepped();
        int runs = 0;
        using IInterruptLine line = machine.ConnectInterrupt("line", () => runs++);
        machine.Interrupts.LoseNext(1);
        machine.Interrupts.Deliver(line.Message);
        machine.RunUntil(static () => false, 100);
        Assert.Equal(0, runs);
        machine.Interrupts.DelayNext(1, 5_000_000);
        long sent = machine.Clock.Nanoseconds;
        machine.Interrupts.Deliver(line.Message);
        Assert.True(machine.RunUntil(() => runs == 1));
        Assert.True(machine.Clock.Nanoseconds - sent >= 5_000_000);
        machine.Interrupts.Deliver(line.Message);
        Assert.True(machine.RunUntil(() => runs == 2, 100));
    }

    [Fact]
    public void AHandlerThatThrowsIsKeptAndTheNextRuns()
    {
        using Machine machine = Fixtures.Stepped();
        int runs = 0;
        using IInterruptLine line = machine.ConnectInterrupt("bad", () =>
        {
            runs++;
            throw new InvalidOperationException("no");
        });
        machine.Interrupts.Deliver(line.Message);
        Assert.True(machine.RunUntil(() => runs == 1, 100));
        machine.Interrupts.Deliver(line.Message);
        Assert.True(machine.RunUntil(() => runs == 2, 100));
        Assert.Equal("interrupt handler bad: no", machine.Failures.First().Message);
    }

    // Seen failing: Dispose without waiting for the running handler.
    [Fact]
    public void AfterDisposeTheHandlerDoesNotRun()
    {
        using Machine machine = Fixtures.Threaded();
        for (int i = 0; i < 50; i++)
        {
            bool disposed = false;
            bool late = false;
            bool ended = false;
            int runs = 0;
            IInterruptLine line = machine.ConnectInterrupt("line", () =>
            {
                Interlocked.Increment(ref runs);
                for (int turn = 0; turn < 300; turn++) { machine.Clock.Relax(); }
                if (Volatile.Read(ref disposed)) { late = true; }
                Volatile.Write(ref ended, true);
            });
            machine.Interrupts.Deliver(line.Message);
            Assert.True(machine.RunUntil(() => Volatile.Read(ref runs) > 0));
            line.Dispose();
            Volatile.Write(ref disposed, true);
            machine.Interrupts.Deliver(line.Message);
            Assert.True(machine.RunUntil(() => Volatile.Read(ref ended)));
            Assert.False(late);
        }
    }
}
