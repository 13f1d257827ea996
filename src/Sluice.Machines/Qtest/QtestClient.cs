using System.Buffers.Text;
using System.Net.Sockets;
using System.Text;

namespace Sluice.Machines.Qtest;

/// <summary>
/// The processor's side of a machine that speaks qtest, QEMU's or ours: memory, ports and the virtual clock, one line
/// of text each way per access.
/// </summary>
/// <remarks>
/// <para>Safe from any thread; one command is under way at a time. Nothing is allocated per word access.</para>
/// <para>
/// Every wait is bounded by the time-out. A machine that dies, hangs or answers nonsense ends the connection: this call
/// and all later ones throw <see cref="QtestException"/>. A refused command (<c>FAIL</c>) throws too, but the
/// connection lives on.
/// </para>
/// <para>
/// <c>Post…</c> methods send without waiting for the answer, several times as fast as commands one by one; the next
/// other command, <see cref="Flush"/> or <see cref="Collect"/> waits for the answers and throws if one was a refusal.
/// </para>
/// </remarks>
public sealed partial class QtestClient : IDisposable
{
    // Answers of posted commands wait in the socket while we send: few enough that nobody ever blocks on a full one.
    private const int MostUnanswered = 512;
    private const int LongestAnswer = 64 << 20;

    private readonly Lock _gate = new();
    private readonly Socket _socket;
    private readonly Func<string>? _autopsy;
    private readonly Queue<QtestInterrupt> _interrupts = new();
    private byte[] _output = new byte[64 << 10];
    private int _outputLength;
    private int _lastCommand;
    private byte[] _input = new byte[16 << 10];
    private int _inputStart;
    private int _inputEnd;
    private readonly bool[] _wanted = new bool[MostUnanswered];
    private readonly List<ulong> _collected = [];
    private int _posted;
    private string? _broken;

    /// <summary>A client on a connected stream socket, which it owns from now on.</summary>
    /// <param name="socket">The connection; either side may have listened.</param>
    /// <param name="timeout">How long one answer may take, 1 ms to 24 days.</param>
    /// <param name="autopsy">Called when the connection breaks: what to add about the other side.</param>
    public QtestClient(Socket socket, TimeSpan timeout, Func<string>? autopsy = null)
    {
        ArgumentNullException.ThrowIfNull(socket);
        ArgumentOutOfRangeException.ThrowIfLessThan(timeout, TimeSpan.FromMilliseconds(1));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(timeout, TimeSpan.FromMilliseconds(int.MaxValue));
        (_socket, _autopsy) = (socket, autopsy);
        socket.ReceiveTimeout = (int)timeout.TotalMilliseconds;
        socket.SendTimeout = socket.ReceiveTimeout;
    }

    /// <summary>Why the machine answers no more, in one line; null while it may. From any thread.</summary>
    public string? WhyBroken => Volatile.Read(ref _broken);

    /// <summary>Commands sent so far: tells a poller whether anybody touched the machine.</summary>
    public long Commands { get; private set; }

    /// <summary>
    /// Sends any command line and gives what follows <c>OK</c>. For what has no method here, and for tests.
    /// </summary>
    /// <exception cref="QtestException">Refused, or the connection broke.</exception>
    public string Command(string line)
    {
        ArgumentNullException.ThrowIfNull(line);
        lock (_gate)
        {
            Begin(Encoding.ASCII.GetBytes(line));
            return Encoding.ASCII.GetString(Ask());
        }
    }

    /// <summary>The oldest change of an intercepted line that came with an answer and was not taken yet.</summary>
    public bool TryTakeInterrupt(out QtestInterrupt interrupt)
    {
        lock (_gate) { return _interrupts.TryDequeue(out interrupt); }
    }

    /// <summary>Waits for the answers of everything posted.</summary>
    /// <exception cref="QtestException">One was refused, or the connection broke.</exception>
    public void Flush()
    {
        lock (_gate) { Settle(); }
    }

    /// <summary>The answers of all posted reads since the last call, in order.</summary>
    /// <returns>How many there were; more than fit <paramref name="answers"/> are a programming error.</returns>
    /// <exception cref="QtestException">A posted command was refused (no answers then), or all broke.</exception>
    public int Collect(Span<ulong> answers)
    {
        lock (_gate)
        {
            Settle();
            int count = _collected.Count;
            _collected.CopyTo(answers);
            _collected.Clear();
            return count;
        }
    }

    /// <summary>Closes the connection.</summary>
    public void Dispose()
    {
        _broken ??= "the qtest connection is closed";
        _socket.Dispose();
    }

    // A command is Begin, any number of arguments, then Ask (an answer is wanted now) or Post (some time).
    private void Begin(ReadOnlySpan<byte> verb)
    {
        _lastCommand = _outputLength;
        Put(verb);
    }

    private void Argument(ulong value)
    {
        Put(" 0x"u8);
        Reserve(16);
        Utf8Formatter.TryFormat(value, _output.AsSpan(_outputLength), out int written, 'x');
        _outputLength += written;
    }

    private void Argument(ReadOnlySpan<byte> text)
    {
        Put(" "u8);
        Put(text);
    }

    private void Put(ReadOnlySpan<byte> text)
    {
        Reserve(text.Length);
        text.CopyTo(_output.AsSpan(_outputLength));
        _outputLength += text.Length;
    }

    private void Reserve(int bytes)
    {
        if (_output.Length - _outputLength >= bytes) { return; }
        Array.Resize(ref _output, Math.Max(_output.Length * 2, _outputLength + bytes));
    }

    private void Post(bool wanted)
    {
        Put("\n"u8);
        Commands++;
        _wanted[_posted++] = wanted;
        if (_posted == MostUnanswered || _outputLength >= 16 << 10) { Settle(); }
    }

    /// <summary>
    /// Sends the command and everything posted before it; the answer's payload, valid until the next command.
    /// </summary>
    private ReadOnlySpan<byte> Ask()
    {
        Put("\n"u8);
        Commands++;
        QtestException? refusal = SendAndSettle();
        if (refusal is null) { return ReadAnswer(); }
        try { ReadAnswer(); }
        catch (QtestException) when (_broken is null) { }
        throw refusal;
    }

    private void Settle()
    {
        if (SendAndSettle() is { } refusal) { throw refusal; }
    }

    /// <summary>Sends what there is and takes the answers of everything posted; the first refusal among them.</summary>
    private QtestException? SendAndSettle()
    {
        QtestException? refusal = null;
        int posted = _posted;
        _posted = 0;
        Send();
        for (int i = 0; i < posted; i++)
        {
            try
            {
                ReadOnlySpan<byte> answer = ReadAnswer();
                if (_wanted[i]) { _collected.Add(ParseNumber(answer)); }
            }
            catch (QtestException e) when (_broken is null) { refusal ??= e; }
        }
        if (refusal is not null) { _collected.Clear(); }
        return refusal;
    }

    private void Send()
    {
        if (_broken is not null)
        {
            _outputLength = 0;
            throw new QtestException(_broken);
        }
        ReadOnlySpan<byte> rest = _output.AsSpan(0, _outputLength);
        try
        {
            while (!rest.IsEmpty) { rest = rest[_socket.Send(rest)..]; }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            throw Break("does not take commands any more", e);
        }
        _outputLength = 0;
    }

    /// <summary>One answer; interrupt lines before it are put aside.</summary>
    private ReadOnlySpan<byte> ReadAnswer()
    {
        while (true)
        {
            ReadOnlySpan<byte> line = ReadLine();
            if (line.SequenceEqual("OK"u8)) { return default; }
            if (line.StartsWith("OK "u8)) { return line[3..]; }
            if (line.StartsWith("FAIL"u8) || line.StartsWith("ERR"u8))
            {
                throw new QtestException($"the machine refused '{LastCommand()}': {Shorten(line)}");
            }
            if (!TryParseInterrupt(line, out QtestInterrupt interrupt))
            {
                throw Break($"answered nonsense: '{Shorten(line)}'");
            }
            // A client that never looks must not collect them for ever.
            if (_interrupts.Count == 4096) { _interrupts.Dequeue(); }
            _interrupts.Enqueue(interrupt);
        }
    }

    private ReadOnlySpan<byte> ReadLine()
    {
        int searched = _inputStart;
        while (true)
        {
            int end = _input.AsSpan(searched, _inputEnd - searched).IndexOf((byte)'\n');
            if (end >= 0)
            {
                ReadOnlySpan<byte> line = _input.AsSpan(_inputStart, searched + end - _inputStart);
                _inputStart = searched + end + 1;
                return line.EndsWith("\r"u8) ? line[..^1] : line;
            }
            searched = _inputEnd;
            if (_inputEnd == _input.Length)
            {
                int kept = _inputEnd - _inputStart;
                if (kept > LongestAnswer) { throw Break("answered with a line that does not end"); }
                byte[] room = kept > _input.Length / 2 ? new byte[_input.Length * 2] : _input;
                Array.Copy(_input, _inputStart, room, 0, kept);
                (searched, _inputStart, _inputEnd, _input) = (kept, 0, kept, room);
            }
            int received;
            try { received = _socket.Receive(_input.AsSpan(_inputEnd)); }
            catch (SocketException e) when (e.SocketErrorCode is SocketError.TimedOut or SocketError.WouldBlock)
            {
                throw Break($"did not answer '{LastCommand()}' within {_socket.ReceiveTimeout} ms", e);
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                throw Break("closed the connection", e);
            }
            if (received == 0) { throw Break($"closed the connection instead of answering '{LastCommand()}'"); }
            _inputEnd += received;
        }
    }

    private QtestException Break(string what, Exception? inner = null)
    {
        if (_broken is null)
        {
            string known = _autopsy?.Invoke() ?? "";
            _broken = known.Length == 0 ? $"the machine {what}" : $"the machine {what}: {known}";
        }
        _outputLength = 0;
        return inner is null ? new(_broken) : new(_broken, inner);
    }

    // The text of the last command stays in the output buffer after it was sent.
    private string LastCommand()
    {
        ReadOnlySpan<byte> text = _output.AsSpan(_lastCommand);
        int end = text.IndexOf((byte)'\n');
        return Shorten(end < 0 ? text : text[..end]);
    }

    private ulong ParseNumber(ReadOnlySpan<byte> answer)
    {
        bool isHex = answer.StartsWith("0x"u8);
        ReadOnlySpan<byte> digits = isHex ? answer[2..] : answer;
        return Utf8Parser.TryParse(digits, out ulong value, out int used, isHex ? 'x' : 'D') && used == digits.Length
            ? value
            : throw Break($"answered nonsense: '{Shorten(answer)}'");
    }

    private static bool TryParseInterrupt(ReadOnlySpan<byte> line, out QtestInterrupt interrupt)
    {
        interrupt = default;
        bool raised = line.StartsWith("IRQ raise "u8);
        if (!raised && !line.StartsWith("IRQ lower "u8)) { return false; }
        ReadOnlySpan<byte> number = line["IRQ raise "u8.Length..];
        if (!Utf8Parser.TryParse(number, out int index, out int used) || used != number.Length) { return false; }
        interrupt = new(index, raised);
        return true;
    }

    private static string Shorten(ReadOnlySpan<byte> text) =>
        Encoding.ASCII.GetString(text[..Math.Min(text.Length, 100)]) + (text.Length > 100 ? "…" : "");
}
