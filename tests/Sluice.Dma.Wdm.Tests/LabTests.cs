namespace Sluice.Dma.Wdm.Tests;

/// <summary>The lab itself: what a test failed with is what is told.</summary>
public sealed class LabTests
{
    // Seen failing: a lab that always asserts at its end.
    [Theory]
    [MemberData(nameof(Backend.All), MemberType = typeof(Backend))]
    public void AFailureIsNotHiddenByTheLeakItLeaves(string backend)
    {
        Assert.Equal("first", Assert.Throws<InvalidDataException>(() => Leak(backend, fails: true)).Message);
        Assert.Throws<Xunit.Sdk.EmptyException>(() => Leak(backend, fails: false));
    }

    private static void Leak(string backend, bool fails)
    {
        using Lab lab = new(backend);
        lab.List(lab.Get(4096), lab.Buffer(4096), 0, 4096, writeToDevice: true);
        if (fails) { throw new InvalidDataException("first"); }
    }
}
