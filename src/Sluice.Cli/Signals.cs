using System.Runtime.InteropServices;

namespace Sluice.Cli;

/// <summary>
/// An orderly end on the signals by which people and systems end programs: what was started is ended, what the runtime
/// keeps in the temporary folder is removed, and the status is 128 and the signal's number.
/// </summary>
internal static class Signals
{
    private static readonly (PosixSignal Signal, int Number)[] Ending =
    [
        (PosixSignal.SIGHUP, 1), (PosixSignal.SIGINT, 2), (PosixSignal.SIGQUIT, 3), (PosixSignal.SIGTERM, 15),
    ];

    private static readonly List<PosixSignalRegistration> Registrations = [];

    /// <summary>
    /// Does the work on a thread of its own and returns its status, or that of the first signal; the process then ends,
    /// whatever the work is waiting for.
    /// </summary>
    /// <remarks>
    /// The main thread is kept free to return: where another thread exits instead, the runtime now and then leaves its
    /// pipes behind.
    /// </remarks>
    public static int RunUntilOne(Terminal terminal, Func<int> work)
    {
        TaskCompletionSource<int> status = new(TaskCreationOptions.RunContinuationsAsynchronously);
        foreach ((PosixSignal signal, int number) in Ending)
        {
            // What our parent had ignored, as nohup does, the runtime leaves alone.
            Registrations.Add(PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                // Before the end is told: what the work makes of losing its ground is nobody's business.
                terminal.Close();
                status.TrySetResult(128 + number);
            }));
        }
        Thread worker = new(() =>
        {
            try { status.TrySetResult(work()); }
            catch (Exception error) { status.TrySetException(error); }
        })
        {
            IsBackground = true, Name = "command",
        };
        worker.Start();
        return status.Task.GetAwaiter().GetResult();
    }
}
