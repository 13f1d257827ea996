namespace Sluice.Tests;

public sealed class AddressTests
{
    [Theory]
    [InlineData("0000:00:04.0", 0, 0x20)]
    [InlineData("00:1f.7", 0, 0xFF)]
    [InlineData("00ab:ff:1f.7", 0xAB, 0xFFFF)]
    public void PciAddressesReadAndPrintAsLspciDoes(string text, int segment, int requester)
    {
        Assert.True(PciAddress.TryParse(text, out PciAddress address));
        Assert.Equal(new PciAddress((ushort)segment, new((ushort)requester)), address);
        Assert.EndsWith(text, address.ToString(), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("")]
    [InlineData("00:20.0")]
    [InlineData("00:00.8")]
    [InlineData("100:00.0")]
    [InlineData("0:0:0:0.0")]
    [InlineData("00:04")]
    [InlineData(null)]
    public void BadPciAddressesAreRefused(string? text) => Assert.False(PciAddress.TryParse(text, out _));

    [Fact]
    public void TheLastPageOfA64BitSpaceIsARange()
    {
        LogicalRange top = LogicalRange.FromLength(new(0xFFFF_FFFF_FFFF_F000), 0x1000);
        Assert.Equal(ulong.MaxValue, top.Last.Value);
        Assert.True(top.Contains(top.Last));
        Assert.False(top.Contains(new LogicalAddress(0)));
        Assert.Throws<ArgumentOutOfRangeException>(() => LogicalRange.FromLength(new(0xFFFF_FFFF_FFFF_F000), 0x1001));
    }
}
