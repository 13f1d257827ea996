using System.Reflection;

namespace Sluice.Remapping.Tests;

/// <summary>What a domain hands out is a mapping as a whole: nobody else makes one, or a smaller one of it.</summary>
public sealed class HandleTests
{
    // Seen failing: handles that anyone could change (mapping with { Pages = 1 }) or make. Unmapping a part answered
    // "unmapped" and freed the whole slot; the other pages stayed within reach, and the slot's next map threw.
    [Theory]
    [InlineData(typeof(DomainMapping))]
    [InlineData(typeof(DomainRange))]
    [InlineData(typeof(ReservedMapping))]
    public void NobodyMakesOrChangesAHandle(Type handle)
    {
        Assert.Empty(handle.GetConstructors());
        Assert.All(handle.GetProperties(), static property => Assert.False(property.CanWrite, property.Name));
        Assert.Empty(handle.GetFields(BindingFlags.Instance | BindingFlags.Public));
        Assert.All(handle.GetMethods(BindingFlags.Static | BindingFlags.Public),
            method => Assert.NotEqual(handle, method.ReturnType));
    }
}
