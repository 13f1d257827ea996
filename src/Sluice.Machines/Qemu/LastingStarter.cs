using System.Collections.Concurrent;
using System.Diagnostics;

namespace Sluice.Machines.Qemu;

/// <summary>
/// Starts processes from one thread that lives as long as this process. Safe from any thread.
/// </summary>
/// <remarks>
/// The kernel's parent-death signal (<c>prctl(PR_SET_PDEATHSIG)</c>), with which QEMU learns of our end, is sent when
/// the <em>thread</em> that started it ends. A thread of the pool may end at any time, and would take QEMU with it.
/// </remarks>
internal static class LastingStarter
{
    private static readonly BlockingCollection<(ProcessStartInfo Start, TaskCompletionSource<Process> Answer)> Orders =
        Open();

    /// <summary>Starts a process and returns it. Errors are those of <see cref="Process.Start()"/>.</summary>
    public static Process Start(ProcessStartInfo start)
    {
        TaskCompletionSource<Process> answer = new(TaskCreationOptions.RunContinuationsAsynchronously);
        Orders.Add((start, answer));
        return answer.Task.GetAwaiter().GetResult();
    }

    private static BlockingCollection<(ProcessStartInfo, TaskCompletionSource<Process>)> Open()
    {
        BlockingCollection<(ProcessStartInfo Start, TaskCompletionSource<Process> Answer)> orders = [];
        new Thread(() => Serve(orders)) { IsBackground = true, Name = "process starter" }.Start();
        return orders;
    }

    private static void Serve(BlockingCollection<(ProcessStartInfo Start, TaskCompletionSource<Process> Answer)> orders)
    {
        foreach ((ProcessStartInfo start, TaskCompletionSource<Process> answer) in orders.GetConsumingEnumerable())
        {
            try { answer.SetResult(Process.Start(start)!); }
            catch (Exception e) { answer.SetException(e); }
        }
    }
}
