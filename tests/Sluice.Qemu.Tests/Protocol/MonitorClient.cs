using System.Net.Sockets;
using System.Text;
using System.Text.Json;

namespace Sluice.Qemu.Tests.Protocol;

/// <summary>A client of QEMU's monitor protocol, and of ours: text in, messages out.</summary>
internal sealed class MonitorClient : IDisposable
{
    private readonly NetworkStream _stream;
    private readonly StreamReader _reader;

    public MonitorClient(Socket socket)
    {
        socket.ReceiveTimeout = 20_000;
        _stream = new(socket, ownsSocket: true);
        _reader = new(_stream, Encoding.UTF8);
    }

    public void Send(string text) => _stream.Write(Encoding.UTF8.GetBytes(text));

    /// <summary>The next message; null when the connection was closed.</summary>
    public JsonElement? Next()
    {
        try
        {
            return _reader.ReadLine() is { } line ? JsonDocument.Parse(line).RootElement : null;
        }
        catch (IOException e)
            when (e.InnerException is SocketException { SocketErrorCode: SocketError.ConnectionReset })
        {
            return null;
        }
    }

    /// <summary>What both say alike of a message: its kind, the class of an error, the id; not the words.</summary>
    public string NextInShort()
    {
        if (Next() is not { } message) { return "closed"; }
        string id = message.TryGetProperty("id", out JsonElement given) ? $" id {given.GetRawText()}" : "";
        return message.TryGetProperty("return", out JsonElement returned) ? $"return {returned.GetRawText()}{id}"
            : message.TryGetProperty("error", out JsonElement error) ? $"error {error.GetProperty("class")}{id}"
            : message.TryGetProperty("event", out JsonElement name)
                ? $"event {name} {message.GetProperty("data").GetRawText()}"
            : message.TryGetProperty("QMP", out JsonElement greeting)
                ? $"greeting {greeting.GetProperty("version").GetProperty("qemu").GetProperty("major")}"
            : message.GetRawText();
    }

    public void Dispose() => _reader.Dispose();
}
