using System.Security.Cryptography;

namespace Sluice.Cli.Tests;

/// <summary>A file of seeded bytes, gone after the test.</summary>
internal sealed class TemporaryFile : IDisposable
{
    public TemporaryFile(long bytes, int seed = 1)
    {
        Path = System.IO.Path.Combine(System.IO.Path.GetTempPath(), $"sluice-test-{Guid.NewGuid():N}.img");
        Random random = new(seed);
        byte[] chunk = new byte[1 << 20];
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        using FileStream file = File.Create(Path);
        for (long left = bytes; left > 0;)
        {
            Span<byte> piece = chunk.AsSpan(0, (int)Math.Min(left, chunk.Length));
            random.NextBytes(piece);
            file.Write(piece);
            hash.AppendData(piece);
            left -= piece.Length;
        }
        Sha256 = Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    public string Path { get; }

    public string Sha256 { get; }

    public void Dispose() => File.Delete(Path);
}
