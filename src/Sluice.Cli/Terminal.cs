using System.Globalization;

namespace Sluice.Cli;

/// <summary>
/// Where a command prints: its results, and beside them the lines for the person at the keyboard. A result that cannot
/// be printed is an error of one line; a line that cannot be printed is lost, and nothing else.
/// </summary>
internal sealed class Terminal(TextWriter output, TextWriter error)
{
    private static readonly IDisposable?[] Plugs = new IDisposable?[3];
    private volatile bool _closed;

    /// <summary>Where nobody reads.</summary>
    public static Terminal Silent { get; } = new(TextWriter.Null, TextWriter.Null);

    /// <summary>Results; a write that fails is a <see cref="CommandException"/>.</summary>
    public TextWriter Output => output;

    /// <summary>Everything else. Writing here does not fail.</summary>
    public TextWriter Error => _closed ? TextWriter.Null : error;

    /// <summary>Whether somebody may look at <see cref="Error"/> while it is written.</summary>
    public bool IsWatched { get; private init; }

    /// <summary>
    /// The standard streams, in UTF-8 whatever the locale is called. One that was closed when we were started is known
    /// as such: its number may by now be a file or a pipe of the runtime's own. What writing needs is loaded now, while
    /// it can be: an error is told later, whatever is exhausted then.
    /// </summary>
    /// <exception cref="IOException">Something of that cannot be loaded.</exception>
    public static Terminal OfProcess()
    {
        bool hasOutput = IsInherited(1), hasError = IsInherited(2);
        Plug();
        Terminal terminal = new(
            Writer(new StandardStream(hasOutput ? Console.OpenStandardOutput() : null, forgives: false)),
            Writer(new StandardStream(hasError ? Console.OpenStandardError() : null, forgives: true)))
        {
            IsWatched = hasError && !Console.IsErrorRedirected,
        };
        if (hasError) { Console.OpenStandardError().Write([]); }
        _ = ErrorText.Visible("\0");
        return terminal;
    }

    /// <summary>One line about the work: escaped where it would be more than one line or no text.</summary>
    public void Remark(string line) => Error.WriteLine(ErrorText.Visible(line));

    /// <summary>Nothing is said any more: the process is ending.</summary>
    public void Close() => _closed = true;

    private static StreamWriter Writer(Stream stream) =>
        new(stream) { AutoFlush = true };

    // A descriptor that came with us through exec has no close-on-exec flag; all that the runtime opens has.
    private static bool IsInherited(int descriptor)
    {
        const int CloseOnExec = 0x8_0000;
        if (!OperatingSystem.IsLinux()) { return true; }
        try
        {
            const string Flags = "flags:";
            string path = string.Create(CultureInfo.InvariantCulture, $"/proc/self/fdinfo/{descriptor}");
            foreach (string line in File.ReadAllLines(path))
            {
                if (!line.StartsWith(Flags, StringComparison.Ordinal)) { continue; }
                return (Convert.ToInt64(line[Flags.Length..].Trim(), 8) & CloseOnExec) == 0;
            }
            return true;
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return !Directory.Exists("/proc/self/fdinfo");
        }
    }

    // Numbers 0 to 2 that are free would be given to the next files that are opened, and what any library prints would
    // be written into those.
    private static void Plug()
    {
        const string Nothing = "/dev/null";
        if (!OperatingSystem.IsLinux() || !File.Exists(Nothing)) { return; }
        for (int descriptor = 0; descriptor <= 2; descriptor++)
        {
            if (!File.Exists($"/proc/self/fdinfo/{descriptor}"))
            {
                Plugs[descriptor] = File.OpenHandle(Nothing, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
            }
        }
    }

    private sealed class StandardStream(Stream? stream, bool forgives) : Stream
    {
        public override bool CanRead => false;

        public override bool CanSeek => false;

        public override bool CanWrite => true;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override void Write(byte[] buffer, int offset, int count)
        {
            try
            {
                if (stream is not null) { stream.Write(buffer, offset, count); }
                else if (!forgives) { throw new IOException("it is closed"); }
            }
            catch (Exception e) when (ErrorText.IsOfAFile(e) || e is ObjectDisposedException)
            {
                if (!forgives) { throw new CommandException($"cannot print the result: {ErrorText.Of(e)}"); }
            }
        }

        public override void Flush()
        {
        }

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
