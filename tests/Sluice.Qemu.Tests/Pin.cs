using System.Diagnostics;
using System.Globalization;

namespace Sluice.Qemu.Tests;

/// <summary>
/// Keeps the calling thread on one processor, the one QEMU is kept on: a command and its answer then need no wake-up
/// across cores, which triples the commands per second.
/// </summary>
internal static class Pin
{
    /// <summary>A processor of our own choosing, so that two test runs at once do not meet on one.</summary>
    public static int Processor { get; } = Environment.ProcessId % Environment.ProcessorCount;

    /// <summary>Until the test is over: the thread is the test's own.</summary>
    public static T Run<T>(Func<T> work)
    {
        T result = default!;
        Exception? failure = null;
        Thread thread = new(() =>
        {
            try
            {
                PinCurrentThread();
                result = work();
            }
            catch (Exception e) { failure = e; }
        });
        thread.Start();
        thread.Join();
        if (failure is not null) { throw new InvalidOperationException(failure.Message, failure); }
        return result;
    }

    private static void PinCurrentThread()
    {
        string link = File.ResolveLinkTarget("/proc/thread-self", returnFinalTarget: false)?.Name ?? "";
        if (!int.TryParse(link, NumberStyles.None, CultureInfo.InvariantCulture, out int thread)) { return; }
        try
        {
            using Process taskset = Process.Start(new ProcessStartInfo("taskset", ["-cp", $"{Processor}", $"{thread}"])
            {
                RedirectStandardOutput = true, RedirectStandardError = true,
            })!;
            taskset.WaitForExit();
        }
        catch (System.ComponentModel.Win32Exception)
        {
            // Without taskset everything works, only slower.
        }
    }
}
