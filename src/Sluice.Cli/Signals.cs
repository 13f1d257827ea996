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

    // How long the rest of the process may take to end.
    private static readonly TimeSpan LongestEnd = TimeSpan.FromMinutes(1);
    private static readonly ManualResetEvent Never = new(false);
    private static int _ending;

    /// <summary>
    /// Does the work and returns its status, unless a signal comes first: then this does not return, and the process
    /// ends with the signal's status, whatever the work is waiting for.
    /// </summary>
    /// <remarks>
    /// The work stays on the main thread: on another one some measurements come out up to 40 % slower.
    /// </remarks>
    public static int RunUntilOne(Terminal terminal, Func<int> work)
    {
        foreach ((PosixSignal signal, int number) in Ending)
        {
            // What our parent had ignored, as nohup does, the runtime leaves alone.
            Registrations.Add(PosixSignalRegistration.Create(signal, context =>
            {
                context.Cancel = true;
                if (Interlocked.Exchange(ref _ending, 1) != 0) { return; }
                terminal.Close();
#pragma warning disable RS0030 // This is the program, not a library, and its main thread may be waiting for anything.
                Environment.Exit(128 + number);
#pragma warning restore RS0030
            }));
        }
        try { return work(); }
        finally
        {
            // What the work makes of losing its ground is nobody's business, nor is its status.
            if (Volatile.Read(ref _ending) != 0) { Never.WaitOne(LongestEnd); }
        }
    }
}
