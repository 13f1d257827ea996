namespace Sluice.Tests;

public sealed class RequestTests
{
    // Seen failing: the stream's bit left out of the word.
    [Fact]
    public void AStreamIsNoFunctionOfTheSameNumber()
    {
        SourceId function = new(new PciAddress(0x1234, RequesterId.From(0x56, 0x0A, 3)));
        SourceId stream = SourceId.OfStream(function.Number);
        Assert.NotEqual(function, stream);
        Assert.Equal((0x1234_5653u, true, "1234:56:0a.3"), (function.Number, function.IsPci, function.ToString()));
        Assert.Equal((null, 0x1234_5653u), (stream.Pci, stream.Stream));
        Assert.Equal("stream 305419859", stream.ToString());
        Assert.Null(function.Stream);
        Assert.Equal(default, new SourceId(PciAddress.From(0, 0, 0)));
    }

    // Seen failing: the kind stored over the PASID's top bits; a PASID taken back that stayed.
    [Fact]
    public void TheFactsOfARequestKeepApart()
    {
        DmaRequest plain = new(PciAddress.From(0, 4, 0), new(0x1000), DmaAccess.Read);
        Assert.True(plain.IsPlain);
        Assert.Equal((null, DmaRequestKind.Untranslated, false, false),
            (plain.Pasid, plain.Kind, plain.Execute, plain.Privileged));
        foreach (DmaRequestKind kind in Enum.GetValues<DmaRequestKind>())
        {
            foreach ((bool execute, bool privileged) in new[] { (false, false), (false, true), (true, false), (true, true) })
            {
                foreach (uint? pasid in new uint?[] { null, 0, 1, 0xFFFFF })
                {
                    DmaRequest request = plain with
                    {
                        Pasid = pasid is { } value ? new Pasid(value) : null,
                        Kind = kind,
                        Execute = execute,
                        Privileged = privileged,
                    };
                    Assert.Equal((pasid, kind, execute, privileged),
                        (request.Pasid?.Value, request.Kind, request.Execute, request.Privileged));
                    Assert.Equal(
                        pasid is null && kind == DmaRequestKind.Untranslated && !execute && !privileged,
                        request.IsPlain);
                    Assert.Null((request with { Pasid = null }).Pasid);
                }
            }
        }
        Assert.Throws<ArgumentOutOfRangeException>(() => new Pasid(1u << 20));
    }
}
