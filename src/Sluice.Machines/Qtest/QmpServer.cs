using System.Buffers;
using System.Net.Sockets;
using System.Text.Json;

namespace Sluice.Machines.Qtest;

/// <summary>
/// The least of QEMU's monitor protocol (QMP) that a qtest client needs: the greeting, <c>qmp_capabilities</c>,
/// <c>system_reset</c> and <c>quit</c>, and the events <c>RESET</c> and <c>SHUTDOWN</c>. One JSON object a message each
/// way; nothing a client sends harms it, and no message over 16 KiB is taken.
/// </summary>
/// <remarks>
/// Received on a thread of its own (<see cref="Serve"/>); events may be sent from any. A client that does not read for
/// a second is left: its connection is closed, the machine goes on.
/// </remarks>
internal sealed class QmpServer : IDisposable
{
    private const int LongestMessage = 16 << 10;
    private const int SendMilliseconds = 1000;
    private readonly Socket _socket;
    private readonly Func<long> _nanoseconds;
    private readonly Action _reset;
    private readonly Action _quit;
    private readonly Lock _sending = new();
    private readonly ArrayBufferWriter<byte> _output = new();
    private readonly byte[] _input = new byte[LongestMessage];
    private int _length;
    private bool _isSkipping;
    private bool _isNegotiated;

    /// <summary>A monitor on a connected socket, which it owns.</summary>
    /// <param name="socket">The connection.</param>
    /// <param name="nanoseconds">The machine's time, for events; from any thread.</param>
    /// <param name="reset">Resets the machine; on the receiving thread.</param>
    /// <param name="quit">Ends the machine; on the receiving thread, once the client was answered.</param>
    public QmpServer(Socket socket, Func<long> nanoseconds, Action reset, Action quit)
    {
        (_socket, _nanoseconds, _reset, _quit) = (socket, nanoseconds, reset, quit);
        socket.SendTimeout = SendMilliseconds;
    }

    private enum ErrorClass
    {
        GenericError,
        CommandNotFound,
    }

    /// <summary>Greets, then answers until the client or <see cref="Dispose"/> closes the connection.</summary>
    public void Serve()
    {
        Send(static writer =>
        {
            writer.WriteStartObject("QMP");
            writer.WriteStartObject("version");
            writer.WriteStartObject("qemu");
            writer.WriteNumber("micro", 0);
            writer.WriteNumber("minor", 0);
            writer.WriteNumber("major", 11);
            writer.WriteEndObject();
            writer.WriteString("package", "sluice");
            writer.WriteEndObject();
            writer.WriteStartArray("capabilities");
            writer.WriteEndArray();
            writer.WriteEndObject();
        });
        try
        {
            while (true)
            {
                while (TakeMessage()) { }
                int received = _socket.Receive(_input.AsSpan(_length));
                if (received == 0) { return; }
                _length += received;
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The client is gone.
        }
    }

    /// <summary>Says that the machine was reset.</summary>
    /// <param name="byGuest">By a register of the machine's, not by this client.</param>
    public void TellReset(bool byGuest) =>
        SendEvent("RESET", byGuest, byGuest ? "guest-reset" : "host-qmp-system-reset");

    /// <summary>Closes the connection.</summary>
    public void Dispose() => _socket.Dispose();

    /// <summary>Takes the first message out of what was received; false while there is no whole one.</summary>
    private bool TakeMessage()
    {
        if (_isSkipping && !SkipLine()) { return false; }
        // JSON's reader takes no white space for a message that has just begun.
        Drop(_input.AsSpan(0, _length).IndexOfAnyExcept(" \t\r\n"u8) is var blanks && blanks < 0 ? _length : blanks);
        if (_length == 0) { return false; }
        Utf8JsonReader reader = new(_input.AsSpan(0, _length), isFinalBlock: false, default);
        JsonDocument? message = null;
        try
        {
            if (!JsonDocument.TryParseValue(ref reader, out message))
            {
                if (_length < _input.Length) { return false; }
                Refuse(ErrorClass.GenericError, $"a message is longer than {LongestMessage} bytes");
                return _isSkipping = true;
            }
        }
        catch (JsonException)
        {
            Refuse(ErrorClass.GenericError, "this is no JSON");
            return _isSkipping = true;
        }
        using (message)
        {
            int consumed = (int)reader.BytesConsumed;
            bool hasTwins = HasTwins(_input.AsMemory(0, consumed));
            Drop(consumed);
            try
            {
                if (hasTwins) { Refuse(ErrorClass.GenericError, "a member is there twice, or its name is no text"); }
                else { Answer(message.RootElement); }
            }
            catch (Exception e) when (e is not (SocketException or ObjectDisposedException))
            {
                // Text that is no Unicode, for one.
                Refuse(ErrorClass.GenericError, e.Message.ReplaceLineEndings(" "));
            }
        }
        return true;
    }

    /// <summary>Whether an object has two members of one name: which of them is meant is nobody's guess.</summary>
    private static bool HasTwins(ReadOnlyMemory<byte> message)
    {
        try
        {
            using JsonDocument strict = JsonDocument.Parse(message, new() { AllowDuplicateProperties = false });
            return false;
        }
        // A name that is no text is compared with none.
        catch (Exception e) when (e is JsonException or InvalidOperationException) { return true; }
    }

    /// <summary>After a message that made no sense the next one begins on the next line.</summary>
    private bool SkipLine()
    {
        int end = _input.AsSpan(0, _length).IndexOf((byte)'\n');
        _isSkipping = end < 0;
        Drop(end < 0 ? _length : end + 1);
        return !_isSkipping;
    }

    private void Drop(int bytes)
    {
        _length -= bytes;
        _input.AsSpan(bytes, _length).CopyTo(_input);
    }

    private void Answer(JsonElement message)
    {
        if (message.ValueKind != JsonValueKind.Object)
        {
            Refuse(ErrorClass.GenericError, "a message is a JSON object");
            return;
        }
        JsonElement? id = message.TryGetProperty("id", out JsonElement given) ? given : null;
        // What cannot be said back is refused before anything is done for it: this throws.
        using (Utf8JsonWriter trial = new(Stream.Null)) { id?.WriteTo(trial); }
        string? wrong = null;
        foreach (JsonProperty member in message.EnumerateObject())
        {
            if (member.Name is not ("execute" or "arguments" or "id"))
            {
                wrong ??= $"unexpected member '{member.Name}'";
            }
        }
        if (!message.TryGetProperty("execute", out JsonElement verb) || verb.ValueKind != JsonValueKind.String)
        {
            wrong ??= "the member 'execute' is a string";
        }
        if (wrong is not null)
        {
            Refuse(ErrorClass.GenericError, wrong, id);
            return;
        }
        string command = verb.GetString()!;
        bool hasArguments = message.TryGetProperty("arguments", out JsonElement arguments)
            && (arguments.ValueKind != JsonValueKind.Object
                || arguments.EnumerateObject().Any(member => !IsAllowed(command, member)));
        if ((command == "qmp_capabilities") == _isNegotiated)
        {
            Refuse(ErrorClass.CommandNotFound,
                _isNegotiated ? "capabilities are negotiated already" : "first comes 'qmp_capabilities'", id);
        }
        else if (command is not ("qmp_capabilities" or "system_reset" or "quit"))
        {
            Refuse(ErrorClass.CommandNotFound, $"there is no command '{command}'", id);
        }
        else if (hasArguments)
        {
            Refuse(ErrorClass.GenericError, $"'{command}' does not take these arguments", id);
        }
        else { Execute(command, id); }
    }

    // A client may say that it wants none of the capabilities that the greeting does not offer.
    private static bool IsAllowed(string command, JsonProperty argument) =>
        command == "qmp_capabilities" && argument.Name == "enable"
        && argument.Value is { ValueKind: JsonValueKind.Array } wanted && wanted.GetArrayLength() == 0;

    private void Execute(string command, JsonElement? id)
    {
        _isNegotiated = true;
        if (command == "system_reset")
        {
            _reset();
            TellReset(byGuest: false);
        }
        Send(writer =>
        {
            writer.WriteStartObject("return");
            writer.WriteEndObject();
            WriteId(writer, id);
        });
        if (command == "quit")
        {
            SendEvent("SHUTDOWN", byGuest: false, "host-qmp-quit");
            _quit();
        }
    }

    private void Refuse(ErrorClass kind, string why, JsonElement? id = null) => Send(writer =>
    {
        WriteId(writer, id);
        writer.WriteStartObject("error");
        writer.WriteString("class", kind.ToString());
        writer.WriteString("desc", why);
        writer.WriteEndObject();
    });

    private void SendEvent(string name, bool byGuest, string reason) => Send(writer =>
    {
        (long seconds, long nanoseconds) = Math.DivRem(_nanoseconds(), 1_000_000_000);
        writer.WriteStartObject("timestamp");
        writer.WriteNumber("seconds", seconds);
        writer.WriteNumber("microseconds", nanoseconds / 1000);
        writer.WriteEndObject();
        writer.WriteString("event", name);
        writer.WriteStartObject("data");
        writer.WriteBoolean("guest", byGuest);
        writer.WriteString("reason", reason);
        writer.WriteEndObject();
    });

    private static void WriteId(Utf8JsonWriter writer, JsonElement? id)
    {
        if (id is not { } given) { return; }
        writer.WritePropertyName("id");
        given.WriteTo(writer);
    }

    /// <summary>Sends one object; a client that takes none any more loses its connection.</summary>
    private void Send(Action<Utf8JsonWriter> write)
    {
        lock (_sending)
        {
            _output.ResetWrittenCount();
            using (Utf8JsonWriter writer = new(_output))
            {
                writer.WriteStartObject();
                write(writer);
                writer.WriteEndObject();
            }
            _output.Write("\r\n"u8);
            ReadOnlySpan<byte> bytes = _output.WrittenSpan;
            try
            {
                while (!bytes.IsEmpty) { bytes = bytes[_socket.Send(bytes)..]; }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                _socket.Dispose();
            }
        }
    }
}
