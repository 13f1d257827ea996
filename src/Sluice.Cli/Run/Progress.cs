namespace Sluice.Cli.Run;

/// <summary>
/// How far long work has come: one line on standard error that is wiped at the end, only for a person at a terminal.
/// </summary>
internal sealed class Progress(Terminal terminal, long total, bool enabled) : IDisposable
{
    private const int PeriodMilliseconds = 200;
    private readonly bool _enabled = enabled && terminal.IsWatched;
    private readonly long _start = Environment.TickCount64;
    private long _last;
    private bool _shown;

    /// <summary>So much is done.</summary>
    public void Report(long done)
    {
        if (!_enabled) { return; }
        long now = Environment.TickCount64;
        // Short work shows nothing.
        if (now - _start < 1000 || now - _last < PeriodMilliseconds) { return; }
        _last = now;
        _shown = true;
        terminal.Error.Write($"\r{ByteSize.Format(done)} of {ByteSize.Format(total)}, {done * 100 / total} %   ");
    }

    /// <summary>Wipes the line.</summary>
    public void Dispose()
    {
        if (!_shown) { return; }
        _shown = false;
        terminal.Error.Write("\r" + new string(' ', 60) + "\r");
    }
}
